//! What is typed becomes what is meant, and every command shows how it is used.

use clap::CommandFactory;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once("pagevault").chain(line.split(' ')))
}

fn snapshot(line: &str) -> SnapshotArgs {
    match parse(line).unwrap().command {
        Command::Snapshot(args) => args,
        other => panic!("{other:?}"),
    }
}

fn check(line: &str) -> CheckArgs {
    match parse(line).unwrap().command {
        Command::Check(args) => args,
        other => panic!("{other:?}"),
    }
}

#[test]
fn clap_finds_no_mistake() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_an_example_and_every_option_a_help_text() {
    fn look(command: &clap::Command) {
        let name = command.get_name();
        assert!(command.get_about().is_some(), "{name}");
        for argument in command.get_arguments() {
            assert!(
                argument.get_help().is_some_and(|help| !help.to_string().is_empty()),
                "{name} {argument}"
            );
        }
        if command.has_subcommands() {
            command.get_subcommands().for_each(look);
        } else {
            let more = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(more.contains("Example") && more.contains("  pagevault "), "{name}");
        }
    }
    look(&Cli::command());
}

#[test]
fn a_snapshot_has_defaults() {
    let args = snapshot("snapshot a.db b.db");
    assert_eq!(args.databases, [PathBuf::from("a.db"), PathBuf::from("b.db")]);
    assert_eq!((args.kind, args.compression_level), (Kind::Manual, 1));
    assert_eq!(args.busy_timeout, Duration::from_secs(5));
    assert_eq!((args.name, args.description, args.max_hold), (None, None, None));
    assert!(!args.full_scan && !args.verify && args.tags.is_empty() && args.required_tables.is_empty());
}

#[test]
fn repeated_options_add_up() {
    let args =
        snapshot("snapshot a.db --tag a=1 --tag b=2 --require-table t --require-table u --max-hold 2s");
    assert_eq!(args.tags, [("a".into(), "1".into()), ("b".into(), "2".into())]);
    assert_eq!(args.required_tables, ["t", "u"]);
    assert_eq!(args.max_hold, Some(Duration::from_secs(2)));
}

#[test]
fn a_test_restore_is_of_one_or_of_all() {
    assert_eq!(check("check").test_restore, None);
    assert_eq!(check("check --test-restore").test_restore, Some(None));
    let one = "app@latest".parse().unwrap();
    assert_eq!(check("check --test-restore app@latest").test_restore, Some(Some(one)));
    assert_eq!(check("check --read-data-subset 5%").read_data_subset, Some(5.0));
}

#[test]
fn common_options_stand_before_or_after_the_command() {
    for line in ["--vault v --json list", "list --vault v --json", "--json snapshots --vault v"] {
        let cli = parse(line).unwrap();
        assert!(cli.globals.json && cli.globals.vault == Some("v".into()), "{line}");
        assert!(matches!(cli.command, Command::List(_)), "{line}");
    }
}

#[test]
fn no_option_takes_a_secret() {
    fn look(command: &clap::Command) {
        for argument in command.get_arguments() {
            let long = argument.get_long().unwrap_or_default();
            assert!(!["password", "passphrase", "key"].contains(&long), "{} --{long}", command.get_name());
        }
        command.get_subcommands().for_each(look);
    }
    look(&Cli::command());
}
