use super::*;

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, Places { home: Some(Path::new("/home/u")), folder: Path::new("/etc/pagevault") })
}

#[test]
fn the_example_is_right_as_it_is_printed() {
    let config = parse(EXAMPLE).unwrap();
    assert_eq!(config.databases.len(), 1);
    assert!(!config.retention.is_set(), "what is commented out does nothing");
}

/// A line that begins with `#` and no space is a setting that is switched off.
fn all_settings() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
        _ => line,
    });
    // Only one thing opens a vault.
    let lines = lines.filter(|line| !line.starts_with("password_"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn every_setting_of_the_example_can_be_switched_on() {
    let config = parse(&all_settings()).unwrap();
    assert_eq!(config.databases.len(), 2);
    assert_eq!(config.syncs.len(), 1);
    assert!((config.check.read_data_subset - 2.0).abs() < f64::EPSILON);
    assert!(config.retention.is_set() && config.metrics.textfile.is_some());
    assert!(config.databases[0].policy.hooks.before.is_some());
}

/// Defaults that the example names are the defaults.
#[test]
fn what_the_example_calls_a_default_is_one() {
    let shown = parse(&all_settings()).unwrap();
    let plain = parse("").unwrap();
    let policy = |config: &Config| Policy {
        max_age: None,
        max_hold: None,
        tags: Vec::new(),
        hooks: Hooks { timeout: config.defaults.hooks.timeout, ..Hooks::default() },
        ..config.defaults.clone()
    };
    assert_eq!(policy(&shown), policy(&plain));
    assert_eq!(shown.rescan, plain.rescan);
    let alerts = |config: &Config| {
        let alerts = &config.alerts;
        (alerts.timeout, alerts.repeat, alerts.vault_size, alerts.disk_free)
    };
    assert_eq!(alerts(&shown), alerts(&plain));
    let sync = parse("[[sync]]\ndestination = '/x'").unwrap().syncs.remove(0);
    assert_eq!((sync.schedule, sync.delete), (shown.syncs[0].schedule.clone(), shown.syncs[0].delete));
}

#[test]
fn every_key_is_in_the_example() {
    let sections: [(&str, Vec<&str>); 9] = [
        ("[vault]", VAULT.to_vec()),
        ("[defaults]", database::POLICY.to_vec()),
        ("[hooks]", database::HOOKS.to_vec()),
        ("[retention]", RETENTION.to_vec()),
        ("[check]", CHECK.to_vec()),
        ("[[sync]]", SYNC.to_vec()),
        ("[alerts]", ALERTS.to_vec()),
        ("[metrics]", METRICS.to_vec()),
        ("[service]", SERVICE.to_vec()),
    ];
    let mut named = vec!["[database.hooks]".to_owned(), "[[database]]".to_owned()];
    named.extend(sections.iter().map(|(heading, _)| (*heading).to_owned()));
    for heading in &named {
        assert!(EXAMPLE.contains(heading.as_str()), "{heading}");
    }
    let keys_below = |heading: &str| -> Vec<String> {
        let mut inside = false;
        let mut keys = Vec::new();
        for line in EXAMPLE.lines().map(|line| line.strip_prefix('#').unwrap_or(line)) {
            if line.starts_with('[') {
                inside = line.trim_end() == heading;
            } else if inside && let Some((key, _)) = line.split_once(" =") {
                keys.push(key.to_owned());
            }
        }
        keys
    };
    for (heading, keys) in sections {
        let shown = keys_below(heading);
        for key in keys {
            assert!(shown.iter().any(|shown| shown == key), "{heading} lacks {key}");
        }
    }
    let database = keys_below("[[database]]");
    for key in database::DATABASE.into_iter().filter(|key| *key != "hooks") {
        assert!(database.iter().any(|shown| shown == key), "[[database]] lacks {key}");
    }
    for heading in TOP {
        assert!(EXAMPLE.contains(&format!("[{heading}]")), "{heading}");
    }
}

#[test]
fn references_for_exports_are_found_by_the_path_of_the_database() {
    let config = parse(
        "[defaults]\nexport_skips = ['audit']\n\
         [[database]]\nglob = '/srv/*/x.db'\nexport_relations = ['a.b -> c.d']\n\
         [[database]]\npath = '/srv/one/x.db'\nexport_relations = ['e.f -> g.h']\nexport_skips = []\n",
    )
    .unwrap();
    let of = |path: &str| {
        let policy = config.policy_of(Path::new(path));
        let relations = policy.export_relations.iter().map(ToString::to_string).collect::<Vec<_>>();
        (relations.join("; "), policy.export_skips.len())
    };
    assert_eq!(of("/srv/two/x.db"), ("a.b -> c.d".to_owned(), 1));
    assert_eq!(of("/srv/one/x.db"), ("e.f -> g.h".to_owned(), 0));
    assert_eq!(of("/elsewhere.db"), (String::new(), 1));
    let problems = parse("[defaults]\nexport_relations = ['a.b']\nexport_skips = ['a.b.c']").unwrap_err();
    let lines: Vec<_> = problems.iter().map(|problem| problem.line).collect();
    assert_eq!(lines, [2, 3]);
    assert!(
        problems[0].message.contains("export_relations: \"a.b\" is not a relation; write it as"),
        "{problems:?}"
    );
}

#[test]
fn a_database_inherits_and_overrides() {
    let config = parse(
        "[defaults]\nschedule = 'every 5m'\ncompression_level = 7\n[hooks]\nbefore = 'a'\nafter = 'b'\n\
         [[database]]\npath = 'one.db'\nschedule = '@daily'\n[database.hooks]\nbefore = ''\n\
         [[database]]\nglob = '~/t/*/x.db'\nname = '{parent}-{stem}'\n",
    )
    .unwrap();
    let [one, two] = config.databases.as_slice() else { panic!("two databases") };
    assert_eq!(one.source, Source::Path("/etc/pagevault/one.db".into()));
    assert_eq!((one.policy.schedule.to_string().as_str(), one.policy.compression_level), ("@daily", 7));
    assert_eq!((one.policy.hooks.before.as_deref(), one.policy.hooks.after.as_deref()), (None, Some("b")));
    assert_eq!(two.policy.hooks.before.as_deref(), Some("a"));
    assert_eq!(two.source, Source::Glob("/home/u/t/*/x.db".to_owned(), Vec::new()));
    assert_eq!(two.name_of(Path::new("/home/u/t/acme/x.db")).as_deref(), Some("acme-x"));
}
