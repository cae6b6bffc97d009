//! Programs of the user's around a snapshot: started by `sh -c`, told by their environment, and never waited for longer
//! than allowed.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

const SHORTEST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(50);

/// What a hook is told, by variables of these names.
pub(crate) type Told = Vec<(&'static str, OsString)>;

/// Runs `command` to its end, or to the end of `timeout`, or until `stopped`: then it is killed with all that it started.
///
/// # Errors
/// Why it has failed, in words.
pub(crate) fn run(
    command: &str,
    told: &Told,
    timeout: Duration,
    stopped: &dyn Fn() -> bool,
) -> Result<(), String> {
    let started = Instant::now();
    let child = Command::new("sh")
        .args(["-c", command])
        .envs(told.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .process_group(0)
        .spawn();
    let mut child = child.map_err(|error| format!("it cannot be run: {error}"))?;
    let mut pause = SHORTEST_WAIT;
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => {
                return Err(match (status.code(), status.signal()) {
                    (Some(code), _) => format!("it ended with code {code}"),
                    (None, Some(signal)) => format!("it was ended by signal {signal}"),
                    (None, None) => "it failed".to_owned(),
                });
            }
            Err(error) => return Err(format!("it cannot be waited for: {error}")),
            Ok(None) if started.elapsed() >= timeout => {
                kill(&mut child);
                return Err(format!("it was killed after {} s", timeout.as_secs()));
            }
            Ok(None) if stopped() => {
                kill(&mut child);
                return Err("it was killed, because the service stops".to_owned());
            }
            Ok(None) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(LONGEST_WAIT);
    }
}

/// Ends the hook and its children; those that made a group of their own are not ours.
fn kill(child: &mut Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        let _ = kill_process_group(group, Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_for(command: &str, timeout: Duration) -> Result<(), String> {
        run(command, &vec![("PAGEVAULT_DATABASE", "app".into())], timeout, &|| false)
    }

    #[test]
    fn a_hook_knows_what_it_is_about_and_says_how_it_ended() {
        let minute = Duration::from_mins(1);
        assert_eq!(run_for("test \"$PAGEVAULT_DATABASE\" = app", minute), Ok(()));
        assert_eq!(run_for("exit 3", minute), Err("it ended with code 3".to_owned()));
        assert_eq!(run_for("kill -9 $$", minute), Err("it was ended by signal 9".to_owned()));
    }

    #[test]
    fn a_hook_that_hangs_is_killed_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let command = format!("(sleep 3; touch {}) & wait", mark.display());
        let started = Instant::now();
        assert_eq!(run_for(&command, Duration::from_secs(1)), Err("it was killed after 1 s".to_owned()));
        assert!(started.elapsed() < Duration::from_secs(3));
        std::thread::sleep(Duration::from_millis(3500));
        assert!(!mark.exists(), "its child went on");
    }

    #[test]
    fn a_stop_does_not_wait_for_a_hook() {
        let outcome = run("sleep 60", &Told::new(), Duration::from_mins(1), &|| true);
        assert!(outcome.is_err_and(|why| why.contains("stops")));
    }
}
