//! The demo's picture: rows of RGB bytes as a PNG file that replaces no other.

use crate::cli::{exit::Exit, failure::Failure};
use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

/// How many names are tried beside the one that was asked for.
const NAMES_MAX: u32 = 10_000;

/// The size of a picture in pixels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// Pixels in a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
}

/// Fails when the picture could not be written later on: its directory is missing.
///
/// # Errors
/// The directory is not there, or `path` is one.
pub fn check_place(path: &Path) -> Result<(), Failure> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let wrong = if !directory.is_dir() {
        format!("there is no directory {}", directory.display())
    } else if path.is_dir() {
        "it is a directory".to_owned()
    } else if path.file_name().is_none() {
        "it has no name".to_owned()
    } else {
        return Ok(());
    };
    let failure = Failure::usage("PICTURE", format!("the picture cannot be written to {}", path.display()));
    Err(failure.cause(wrong).hint("manyhands demo --output mandelbrot.png"))
}

/// Writes the picture to `path`, or, where another file has that name, to the next free one: `name-2.png`. Returns where
/// it is. A file that is this very picture stays as it is.
///
/// # Errors
/// The file cannot be written.
pub fn save(path: &Path, size: Size, pixels: &[u8]) -> Result<PathBuf, Failure> {
    let failed = |path: &Path, error: &io::Error| {
        let failure = Failure::new(Exit::Other, "PICTURE", format!("{} cannot be written", path.display()));
        failure.cause(error.to_string()).hint("manyhands demo --output DIR/mandelbrot.png")
    };
    let bytes = encode(size, pixels).map_err(|error| failed(path, &io::Error::other(error)))?;
    for number in 1..=NAMES_MAX {
        let candidate = numbered(path, number);
        match File::create_new(&candidate) {
            Ok(file) => {
                let mut file = BufWriter::new(file);
                let written = file.write_all(&bytes).and_then(|()| file.flush());
                written.map_err(|error| {
                    // Half a picture is of no use; that it stays where removing fails too is the lesser evil.
                    let _ = fs::remove_file(&candidate);
                    failed(&candidate, &error)
                })?;
                return Ok(candidate);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if fs::read(&candidate).is_ok_and(|found| found == bytes) {
                    return Ok(candidate);
                }
            }
            Err(error) => return Err(failed(&candidate, &error)),
        }
    }
    Err(failed(path, &io::ErrorKind::AlreadyExists.into()))
}

fn encode(size: Size, pixels: &[u8]) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, size.width, size.height);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 1 {
        return path.to_owned();
    }
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    path.with_file_name(format!("{stem}-{number}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size = Size { width: 2, height: 1 };

    #[test]
    fn another_file_is_never_replaced_and_the_same_picture_is_kept_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        assert_eq!(save(&path, SIZE, &[1, 2, 3, 4, 5, 6]).unwrap(), path);
        assert_eq!(save(&path, SIZE, &[1, 2, 3, 4, 5, 6]).unwrap(), path);
        assert_eq!(save(&path, SIZE, &[9; 6]).unwrap(), dir.path().join("a-2.png"));
        assert_eq!(save(&path, SIZE, &[8; 6]).unwrap(), dir.path().join("a-3.png"));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }

    #[test]
    fn the_pixels_are_in_the_file() {
        let bytes = encode(SIZE, &[1, 2, 3, 4, 5, 6]).unwrap();
        let mut reader = png::Decoder::new(io::Cursor::new(bytes)).read_info().unwrap();
        let mut pixels = [0; 6];
        reader.next_frame(&mut pixels).unwrap();
        assert_eq!(pixels, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn a_place_that_is_not_there_is_found_out_before_the_work() {
        let dir = tempfile::tempdir().unwrap();
        assert!(check_place(&dir.path().join("a.png")).is_ok());
        assert!(check_place(Path::new("a.png")).is_ok());
        for wrong in [dir.path().join("none/a.png"), dir.path().to_owned()] {
            assert_eq!(check_place(&wrong).unwrap_err().exit, Exit::Usage);
        }
    }

    #[test]
    fn too_few_pixels_are_an_error() {
        let dir = tempfile::tempdir().unwrap();
        assert!(save(&dir.path().join("a.png"), SIZE, &[1, 2, 3]).is_err());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
