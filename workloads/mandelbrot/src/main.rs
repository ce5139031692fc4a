//! Renders rows of a picture of the Mandelbrot set, see `README.md`.

#![cfg_attr(target_family = "wasm", no_std, no_main)]

extern crate alloc;

mod colour;
mod lanes;
mod orbit;
mod view;

use alloc::vec::Vec;

use workload::{Args, Error, Output};

use crate::colour::Palette;
use crate::view::View;

const USAGE: &str = "usage: mandelbrot [OPTION]... START END    write the rows START <= row < END as RGB bytes

  --width N        pixels in a row, 1024 unless given
  --height N       rows of the whole picture, 768 unless given
  --iterations N   after which a point counts as inside, 2000 unless given
  --samples N      N x N points averaged for a pixel, 1 unless given, at most 8
  --centre X,Y     the point in the middle, in decimal digits
  --span S         the width of the picture in the plane, in decimal digits";

fn run(mut args: Args, output: &mut Output) -> Result<(), Error> {
    let view = View::from_args(&mut args)?;
    let rows = args.range()?;
    args.finish()?;
    if rows.end > view.height {
        return Err(Error::usage("END is greater than the height"));
    }
    let palette = Palette::new();
    let mut pixels = Vec::new();
    for row in rows {
        view.render(row, &palette, &mut pixels);
        output.write(&pixels)?;
        pixels.clear();
    }
    Ok(())
}

workload::command!(run, USAGE);
