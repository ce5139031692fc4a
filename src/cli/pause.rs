//! `manyhands pause` and `manyhands resume`: stop and start lending.

use super::{
    amount::Span,
    context::{Context, Format},
    exit::Exit,
    failure::Failure,
    status,
};

/// Stop lending at once: running units are frozen
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands pause               until resumed
  manyhands pause --for 2h")]
pub struct PauseArgs {
    /// Resume by itself after this long
    #[arg(long = "for", value_name = "TIME")]
    duration: Option<Span>,
}

/// Lend again
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  manyhands resume")]
pub struct ResumeArgs {}

/// Runs `pause`.
pub async fn pause(args: PauseArgs, context: &mut Context) -> Result<Exit, Failure> {
    if args.duration.is_some_and(|span| span.0.is_zero()) {
        return Err(Failure::usage("BAD_DURATION", "a pause of no time is none").hint("manyhands pause --for 10m"));
    }
    let state = context.connect().await?.pause(args.duration.map(|span| span.0)).await?;
    if context.format != Format::Table {
        status::print(&state, context)?;
        return Ok(Exit::Ok);
    }
    let how_long = args.duration.map_or("until resumed".to_owned(), |span| format!("for {span}"));
    context.print(format!("paused {how_long}; {} running units are frozen", state.slots_busy))?;
    context.say("lend again: manyhands resume");
    Ok(Exit::Ok)
}

/// Runs `resume`.
pub async fn resume(ResumeArgs {}: ResumeArgs, context: &mut Context) -> Result<Exit, Failure> {
    let state = context.connect().await?.resume().await?;
    if context.format != Format::Table {
        status::print(&state, context)?;
        return Ok(Exit::Ok);
    }
    context.print(format!("lending again: {} slots", state.slots))?;
    context.say("see: manyhands status");
    Ok(Exit::Ok)
}
