//! A job's progress while one waits: a bar on a terminal, plain lines at the start, every 10 % or 30 s and the end elsewhere.

use super::{context::Context, context::Volume, human};
use crate::{control::error::grouped, wire::control::Job};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::time::{Duration, Instant};

/// The longest silence of the plain form.
pub const LINE_INTERVAL: Duration = Duration::from_secs(30);
const LINE_PERCENT: u32 = 10;

/// Shows a job's progress.
pub enum Progress {
    /// Live, on a terminal; with what Ctrl-C does.
    Bar(ProgressBar, &'static str),
    /// Lines, where nobody looks live.
    Lines(Lines),
    /// Nothing: `--quiet`, or every change is printed as JSON.
    Hidden,
}

/// Decides when a plain line is due.
#[derive(Debug, Default)]
pub struct Lines {
    last: Option<(Instant, u32)>,
}

impl Progress {
    /// The form that suits who listens.
    pub fn new(context: &Context) -> Self {
        if context.volume == Volume::Quiet {
            return Self::Hidden;
        }
        if !context.terminals.stderr {
            return Self::Lines(Lines::default());
        }
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix}  {bar:20}  {percent:>3}%   {msg}").expect("a valid template");
        bar.set_style(style.progress_chars("█▉▊▋▌▍▎▏ "));
        Self::Bar(bar, "Ctrl-C detaches, the job continues")
    }

    /// The same, but Ctrl-C does something else.
    #[must_use]
    pub fn with_hint(self, hint: &'static str) -> Self {
        match self {
            Self::Bar(bar, _) => Self::Bar(bar, hint),
            Self::Lines(_) | Self::Hidden => self,
        }
    }

    /// Shows the job as it is now.
    pub fn update(&mut self, job: &Job, context: &mut Context) {
        match self {
            Self::Hidden => {}
            Self::Bar(bar, hint) => {
                bar.set_length(u64::from(job.units));
                bar.set_prefix(format!("{} {}", human::shown(&job.name), human::short_id(job)));
                bar.set_message(message(job, hint));
                bar.set_position(u64::from(human::decided(job)));
                bar.tick();
            }
            Self::Lines(lines) => {
                if let Some(line) = lines.line(Instant::now(), job) {
                    context.say(line);
                }
            }
        }
    }

    /// Removes the bar, so that what follows starts on a clean line.
    pub fn clear(&mut self) {
        match self {
            Self::Bar(bar, _) => bar.finish_and_clear(),
            Self::Lines(_) | Self::Hidden => {}
        }
    }
}

fn message(job: &Job, hint: &str) -> String {
    let first = human::eta(job).unwrap_or_else(|| if job.elapsed_ms < 30_000 { String::new() } else { "no estimate yet".to_owned() });
    let waits = job.reason.as_ref().filter(|reason| !reason.text.is_empty());
    let reason = waits.map(|reason| format!("\n{}", human::shown(&reason.text))).unwrap_or_default();
    format!("{first}\n{}\n{}          {hint}{reason}", human::counts(job), human::pace(job))
}

impl Lines {
    /// The line that is due at `now`, if one is.
    pub fn line(&mut self, now: Instant, job: &Job) -> Option<String> {
        let step = human::percent(job) / LINE_PERCENT;
        let ended = job.state() != crate::wire::control::JobState::Running;
        let due = match self.last {
            None => true,
            Some((at, last_step)) => ended || step > last_step || now.duration_since(at) >= LINE_INTERVAL,
        };
        if !due {
            return None;
        }
        self.last = Some((now, step));
        let (name, id, percent) = (human::shown(&job.name), human::short_id(job), human::percent(job));
        let eta = human::eta(job).map(|eta| format!(" · {eta}")).unwrap_or_default();
        let extra = match &job.reason {
            Some(reason) if job.running == 0 && !ended => format!(" · {}", human::shown(&reason.text)),
            Some(_) | None => String::new(),
        };
        Some(format!("{name} {id}  {percent}%  {}{eta}{extra}", human::counts(job)))
    }
}

/// The last words on an ended job, with what to do next.
pub fn ending(job: &Job) -> Vec<String> {
    use crate::wire::control::JobState;
    let (id, took) = (human::short_id(job), human::duration(job.elapsed_ms));
    let units = human::count(job.units, "unit");
    let differs = (!job.nondeterminism.is_empty()).then(|| format!("! {}", human::shown(&job.nondeterminism)));
    let mut lines = match job.state() {
        JobState::Done => vec![
            format!("✓ done: {units} verified in {took} · {}", human::pace(job)),
            format!("results: manyhands results {id}     proof: manyhands verify {id}"),
        ],
        JobState::Failed => vec![
            format!("✗ failed: {} of {units} failed", grouped(job.failed)),
            format!("why: manyhands why {id}     logs: manyhands logs {id}     again: manyhands retry {id}"),
        ],
        JobState::Stopped => {
            vec![format!("✗ {}", human::state(job)), format!("logs: manyhands logs {id}     try here first: manyhands try app.wasm")]
        }
        JobState::Cancelled => {
            vec![format!("• cancelled"), format!("what is verified: manyhands results {id} --partial")]
        }
        JobState::Running | JobState::Unspecified => vec![format!("• {}   watch: manyhands watch {id}", human::state(job))],
    };
    // Behind what the job came to, before what to do next.
    if let Some(differs) = differs {
        lines.insert(1.min(lines.len()), differs);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::control::JobState;

    #[test]
    fn plain_lines_come_at_the_start_every_tenth_every_half_minute_and_the_end() {
        let (mut lines, start) = (Lines::default(), Instant::now());
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let job = |verified, state: JobState| {
            let mut job = Job { units: 100, verified, short_id: "abcde".to_owned(), name: "primes".to_owned(), ..Job::default() };
            job.set_state(state);
            job
        };
        let mut due = |seconds, verified, state| lines.line(at(seconds), &job(verified, state)).is_some();
        assert!(due(0, 0, JobState::Running));
        assert!(!due(1, 5, JobState::Running));
        assert!(due(2, 10, JobState::Running));
        assert!(!due(31, 19, JobState::Running));
        assert!(due(32, 19, JobState::Running));
        assert!(!due(33, 19, JobState::Running));
        assert!(due(34, 19, JobState::Cancelled));
        let line = Lines::default().line(start, &job(10, JobState::Running));
        assert_eq!(line.as_deref(), Some("primes abcde  10%  verified 10/100 · disputed 0 · failed 0"));
    }
}
