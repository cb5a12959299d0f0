//! One run of a tool: it is fed, read, and waited for, until it has ended or was ended.

use super::tool::{self, LOOK, Stop, Stopping, Tool, never_wait, wait_for};
use super::{RunError, render};
use rustix::event::{PollFd, PollFlags};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::process::{ChildStdin, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How much is read at once, bytes.
const PIECE: usize = 64 * 1024;
/// How long what is left of a tool's output is read after its end. Others may hold the pipe, and go on writing.
const TO_DRAIN: Duration = Duration::from_secs(1);

/// How a tool's run ended.
enum End {
    Status(ExitStatus),
    Cancelled,
    Overdue { seconds: u64, hangs: bool },
}

/// A run that has ended.
pub struct Ended {
    end: End,
    program: String,
    /// As a person would type it.
    command: String,
}

impl Ended {
    /// What it comes to; `tail` is the last that the tool has said.
    pub fn judge(self, tail: String) -> Result<(), RunError> {
        let Self { end, program, command } = self;
        match end {
            End::Status(status) if status.success() => Ok(()),
            End::Status(status) => Err(RunError::Failed { program, command, status, tail }),
            End::Cancelled => Err(RunError::Cancelled),
            End::Overdue { seconds, hangs } => Err(RunError::Overdue { program, command, seconds, hangs, tail }),
        }
    }
}

/// What is written to a tool.
struct Feed<'a> {
    to: ChildStdin,
    from: &'a mut dyn Read,
    buffer: Vec<u8>,
    sent: usize,
}

impl Feed<'_> {
    /// Writes as much as goes. Whether there is more; a child that stops reading says why in its output and exit status.
    fn more(&mut self) -> bool {
        if self.sent == self.buffer.len() {
            self.buffer.resize(PIECE, 0);
            self.sent = 0;
            match self.from.read(&mut self.buffer) {
                Ok(0) | Err(_) => return false,
                Ok(count) => self.buffer.truncate(count),
            }
        }
        match self.to.write(self.buffer.get(self.sent..).unwrap_or_default()) {
            Ok(count) => self.sent += count,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => return false,
        }
        true
    }
}

impl Drop for Feed<'_> {
    fn drop(&mut self) {
        // It may have been a secret.
        zeroize::Zeroize::zeroize(&mut self.buffer);
    }
}

/// Runs a command until it has ended, or was ended because its time was over or `asked` says so. What comes out of each of
/// `outputs` is given to `sink`, with its number. The end of them is not waited for: others may hold them open.
pub fn to_its_end(
    mut command: Command,
    outputs: Vec<PipeReader>,
    input: Option<&mut dyn Read>,
    limit: Duration,
    asked: &dyn Fn() -> bool,
    sink: &mut dyn FnMut(usize, &[u8]),
) -> Result<Ended, RunError> {
    let program = command.get_program().to_string_lossy().into_owned();
    let text = render(&command);
    if tool::hangs(&command) {
        return Err(RunError::Hangs { program });
    }
    if input.is_some() {
        command.stdin(Stdio::piped());
    }
    let start = |source| RunError::Start { program: program.clone(), source };
    let mut tool = Tool::start(&mut command).map_err(start)?;
    // The command holds the write ends of the pipes; the end of the output is seen only without them.
    drop(command);
    let stdin = tool.child().and_then(|child| child.stdin.take());
    let mut feed = stdin.zip(input).map(|(to, from)| Feed { to, from, buffer: Vec::new(), sent: 0 });
    let wrong = |source| RunError::Output { program: program.clone(), source };
    feed.iter().try_for_each(|feed| never_wait(&feed.to)).map_err(wrong)?;
    outputs.iter().try_for_each(never_wait).map_err(wrong)?;
    let mut outputs: Vec<Option<PipeReader>> = outputs.into_iter().map(Some).collect();
    let (begun, mut stop, mut why) = (Instant::now(), None::<Stop>, None);
    let mut piece = vec![0; PIECE];
    let end = loop {
        listen(&tool, &outputs, feed.as_ref()).map_err(wrong)?;
        let ended = tool.ended().map_err(wrong)?;
        for (number, output) in outputs.iter_mut().enumerate() {
            let draining = Instant::now();
            while let Some(reader) = output {
                match reader.read(&mut piece) {
                    Ok(0) => *output = None,
                    Ok(count) => sink(number, piece.get(..count).unwrap_or_default()),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(wrong(error)),
                }
                // All that the tool itself has said is in the pipe when it has ended.
                if ended.is_none() || draining.elapsed() > TO_DRAIN {
                    break;
                }
            }
        }
        if feed.as_mut().is_some_and(|feed| !feed.more()) {
            feed = None;
        }
        if stop.is_none() && ended.is_none() {
            let overdue = begun.elapsed() >= limit;
            if overdue || asked() {
                why = Some(if overdue {
                    End::Overdue { seconds: limit.as_secs(), hangs: false }
                } else {
                    End::Cancelled
                });
                stop = Some(tool.stop());
            }
        }
        match (stop.as_mut().map(|stop| tool.go_on(stop)), ended) {
            (None, Some(status)) => break End::Status(status),
            (None | Some(Stopping::Waiting), _) => {}
            (Some(Stopping::Ended), _) => break why.unwrap_or(End::Cancelled),
            (Some(Stopping::LeftBehind), _) => {
                break match why {
                    Some(End::Overdue { seconds, .. }) => End::Overdue { seconds, hangs: true },
                    Some(End::Cancelled | End::Status(_)) | None => End::Cancelled,
                };
            }
        }
    };
    Ok(Ended { end, program, command: text })
}

/// Waits until the tool has something to say, takes something, or has ended; a moment at most.
fn listen(tool: &Tool, outputs: &[Option<PipeReader>], feed: Option<&Feed<'_>>) -> io::Result<()> {
    let end = tool.end();
    let mut fds = vec![PollFd::new(&end, PollFlags::IN)];
    fds.extend(outputs.iter().flatten().map(|output| PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)));
    fds.extend(feed.map(|feed| PollFd::from_borrowed_fd(feed.to.as_fd(), PollFlags::OUT)));
    wait_for(&mut fds, LOOK)
}
