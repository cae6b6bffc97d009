//! Units for systemd, and a line for cron, as text.

/// The first line of every unit that pagevault writes; others are never touched.
pub(crate) const MARK: &str =
    "# Written by `pagevault schedule install`; `pagevault schedule uninstall` removes it.";
/// The end of the line in a crontab.
pub(crate) const CRON_MARK: &str = "# pagevault schedule install";

/// A service that runs all the time, or once for a timer.
pub(crate) fn service(words: &[String], environment: &[(&str, String)], once: bool, system: bool) -> String {
    let command: Vec<String> = words.iter().map(|word| quoted_command(word)).collect();
    let mut variables = String::new();
    for (name, value) in environment {
        variables.extend(["Environment=", &quoted(&format!("{name}={value}")), "\n"]);
    }
    let kind = if once {
        // A run that finds another one at work ends well by itself.
        "Type=oneshot\n"
    } else {
        "Type=exec\nExecReload=/bin/kill -HUP $MAINPID\nRestart=on-failure\nRestartSec=30\n"
    };
    let target = if system { "multi-user.target" } else { "default.target" };
    let install = if once { String::new() } else { format!("\n[Install]\nWantedBy={target}\n") };
    format!(
        "{MARK}\n[Unit]\nDescription=Keep SQLite databases with pagevault\n\n[Service]\n{kind}{variables}ExecStart={}\n\
         # A snapshot is given up between two chunks; what was published stays.\nTimeoutStopSec=60\n\
         Nice=10\nIOSchedulingClass=best-effort\nIOSchedulingPriority=7\n\
         # Keys are in memory.\nLimitCORE=0\nNoNewPrivileges=true\n{install}",
        command.join(" ")
    )
}

/// What starts it every five minutes, and at once after a time when the machine was off.
pub(crate) fn timer() -> String {
    format!(
        "{MARK}\n[Unit]\nDescription=Keep SQLite databases with pagevault, every five minutes\n\n[Timer]\n\
         OnCalendar=*:0/5\nPersistent=true\n\n[Install]\nWantedBy=timers.target\n"
    )
}

/// A line for a crontab; `command` is quoted for a shell already.
pub(crate) fn cron_line(command: &str) -> String {
    format!("*/5 * * * * {} {CRON_MARK}", command.replace('%', "\\%"))
}

/// A word of a command as systemd reads it back (systemd.service(5), "Command lines").
fn quoted_command(word: &str) -> String {
    quoted(&word.replace('$', "$$"))
}

/// A word elsewhere, where a dollar is a dollar.
fn quoted(word: &str) -> String {
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('\n', "\\n");
    format!("\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_words_stay_one_word() {
        assert_eq!(quoted("a$b"), "\"a$b\"");
        assert_eq!(quoted_command("a b%c$d\"e\\f"), "\"a b%%c$$d\\\"e\\\\f\"");
        assert_eq!(
            cron_line("pagevault --config '50%'"),
            format!("*/5 * * * * pagevault --config '50\\%' {CRON_MARK}")
        );
    }
}
