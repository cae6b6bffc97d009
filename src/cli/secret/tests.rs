//! Which source is used, and what is made of what it gives.

use pagevault::crypto::secret::Secret32;
use pagevault::format::keyslot::SlotKind;
use pagevault::monitor::Silent;

use super::super::terminal::script::Scripted;
use super::*;

fn key_file(path: &str) -> UnlockOptions {
    UnlockOptions { key_file: Some(path.into()), ..UnlockOptions::default() }
}

fn password_file(path: &str) -> UnlockOptions {
    UnlockOptions { password_file: Some(path.into()), ..UnlockOptions::default() }
}

fn passphrase(unlocker: &Unlocker) -> &[u8] {
    match unlocker {
        Unlocker::Passphrase(passphrase) => passphrase.expose(),
        other => panic!("{other:?}"),
    }
}

fn secrets(terminal: &Scripted) -> Secrets<'_> {
    Secrets { terminal, monitor: &Silent }
}

fn read(source: &Source) -> Result<Unlocker> {
    secrets(&Scripted::default()).read(source)
}

#[test]
fn an_option_wins_over_variables_and_those_have_an_order() {
    let all = [
        ("PAGEVAULT_KEY_FILE", "k"),
        ("PAGEVAULT_PASSWORD_FILE", "f"),
        ("PAGEVAULT_PASSWORD_COMMAND", "c"),
        ("PAGEVAULT_PASSWORD", "p"),
    ];
    let named = |options: &UnlockOptions, from: usize| {
        Source::named(options, &Environment::of_pairs(&all[from..])).unwrap()
    };
    assert_eq!(named(&password_file("o"), 0), Some(Source::PasswordFile("o".into())));
    let none = UnlockOptions::default();
    assert_eq!(named(&none, 0), Some(Source::KeyFile("k".into())));
    assert_eq!(named(&none, 1), Some(Source::PasswordFile("f".into())));
    assert_eq!(named(&none, 2), Some(Source::PasswordCommand("c".into())));
    assert_eq!(named(&none, 3), Some(Source::Variable(b"p".to_vec().into())));
    assert_eq!(named(&none, 4), None);
}

#[test]
fn two_options_are_a_mistake() {
    let options = UnlockOptions { password_file: Some("b".into()), ..key_file("a") };
    let error = Source::named(&options, &Environment::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[test]
fn init_takes_one_source() {
    let environment = Environment::of_pairs(&[("PAGEVAULT_PASSWORD", "p")]);
    let generate = Some(Path::new("new.key"));
    let of = |generate, options: &UnlockOptions| NewSource::of_init(generate, options, &environment);
    assert_eq!(of(generate, &UnlockOptions::default()).unwrap(), NewSource::Generate("new.key".into()));
    assert_eq!(of(generate, &key_file("a")).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(of(None, &key_file("a")).unwrap(), NewSource::From(Source::KeyFile("a".into())));
    let nothing = NewSource::of_init(None, &UnlockOptions::default(), &Environment::default()).unwrap();
    assert_eq!(nothing, NewSource::From(Source::Prompt));
}

#[test]
fn the_first_line_counts_without_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    for (content, expected) in
        [(b"a b \nsecond" as &[u8], b"a b " as &[u8]), (b"x\r\n", b"x"), (b"\xff", b"\xff"), (b" y", b" y")]
    {
        std::fs::write(&path, content).unwrap();
        let unlocker = read(&Source::PasswordFile(path.clone())).unwrap();
        assert_eq!(passphrase(&unlocker), expected);
    }
    for content in ["", "\nsecond", "\r\n"] {
        std::fs::write(&path, content).unwrap();
        let error = read(&Source::PasswordFile(path.clone())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unlock, "{content:?}");
    }
    assert_eq!(read(&Source::PasswordFile("/nowhere/x".into())).unwrap_err().kind(), ErrorKind::Unlock);
}

#[test]
fn a_command_speaks_or_fails() {
    let run = |command: &str| read(&Source::PasswordCommand(command.into()));
    assert_eq!(passphrase(&run("echo one; echo two").unwrap()), b"one");
    for wrong in ["exit 3", "echo secret; exit 1", "true", "yes a | tr -d '\\n'", "no-such-command-here 2>&-"]
    {
        let error = run(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unlock, "{wrong}");
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}

#[test]
fn recovery_keys_are_known_by_how_they_begin() {
    let secret = Secret32::new([3; 32]);
    let key = TextForm::RecoveryKey.print(&secret);
    for text in [key.to_string(), format!("  {}", key.to_lowercase()), key.replace('-', "")] {
        match read(&Source::Variable(text.into_bytes().into())).unwrap() {
            Unlocker::RecoveryKey(read) => assert_eq!(read.expose(), secret.expose()),
            other => panic!("{other:?}"),
        }
    }
    let cut = key.as_bytes()[..key.len() - 1].to_vec();
    assert_eq!(read(&Source::Variable(cut.into())).unwrap_err().kind(), ErrorKind::Unlock);
    assert_eq!(passphrase(&read(&Source::Variable(b"pvreco".to_vec().into())).unwrap()), b"pvreco");
}

#[test]
fn new_passphrases_are_typed_twice_and_never_empty() {
    let vault = Path::new("/nowhere/vault");
    let prompt = NewSource::From(Source::Prompt);
    let ask = |answers: &[&'static str]| secrets(&Scripted::answering(answers)).read_new(&prompt, vault);
    assert_eq!(passphrase(&ask(&["correct horse", "correct horse"]).unwrap().unlocker), b"correct horse");
    for answers in [["a", "b"], ["", ""], ["PVRecovery1-x", "PVRecovery1-x"]] {
        assert_eq!(ask(&answers).unwrap_err().kind(), ErrorKind::Usage, "{answers:?}");
    }
    let nobody = secrets(&Scripted::default()).read_new(&prompt, vault);
    assert_eq!(nobody.unwrap_err().kind(), ErrorKind::Unlock);
}

#[test]
fn a_key_can_be_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("new.key");
    let source = NewSource::of_args(&NewSecretArgs {
        generate_key_file: Some(path.clone()),
        ..NewSecretArgs::default()
    });
    let new = secrets(&Scripted::default()).read_new(&source, &folder.path().join("vault")).unwrap();
    assert_eq!(new.unlocker.kind(), SlotKind::KeyFile);
    new.keep();
    assert_eq!(read(&Source::KeyFile(path)).unwrap().kind(), SlotKind::KeyFile);
}

#[test]
fn no_secret_is_ever_described() {
    let source = Source::Variable(b"hunter2".to_vec().into());
    let environment = Environment::of_pairs(&[("PAGEVAULT_PASSWORD", "hunter2")]);
    let shown =
        format!("{} {source:?} {:?} {environment:?}", source.describe(), NewSource::From(source.clone()));
    assert!(!shown.contains("hunter2"), "{shown}");
    let bytes = format!("{:?}", b"hunter2").replace(['[', ']'], "");
    assert!(!shown.contains(&bytes), "{shown}");
    assert!(!Source::PasswordCommand("echo hunter2".into()).describe().contains("hunter2"));
}
