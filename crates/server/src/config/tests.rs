//! Tests of the configuration as a whole, and what the tests of its sections share.

use std::path::Path;

use super::*;

pub(super) const KEY: &str = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";

pub(crate) fn load(settings: &[(&str, &str)]) -> anyhow::Result<Config> {
    let flags = settings
        .iter()
        .map(|(path, value)| Setting::flag("--set", path, *value))
        .collect();
    Config::load(None, flags)
}

pub(super) fn refused(path: &str, value: &str) -> String {
    load(&[(path, value)]).expect_err(value).to_string()
}

#[test]
fn every_setting_is_in_the_documentation() {
    let docs = include_str!("../../../../docs/configuration.md");
    let of_apps = fanfare_protocol::AppSettings::names();
    let of_server = names::names().map(str::to_owned);
    for path in of_server.chain(of_apps) {
        assert!(
            docs.contains(&format!("`{path}`")),
            "{path} is not in docs/configuration.md"
        );
    }
    let (of_server, _) = docs.split_once("## Settings of an app").unwrap();
    let documented = of_server
        .lines()
        .filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`'));
    for path in documented {
        assert!(names::kind(path).is_some(), "{path} is no setting");
    }
}

#[test]
fn every_setting_of_the_server_is_explained() {
    let docs = include_str!("../../../../docs/configuration.md");
    for path in names::names().filter(|path| !path.starts_with("ceilings.")) {
        let (_, section) = docs
            .split_once(&format!("\n### `{path}`\n"))
            .unwrap_or_else(|| panic!("{path} has no section in docs/configuration.md"));
        let section = section.split("\n#").next().unwrap_or_default();
        let prose = section
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("- "));
        assert!(prose.count() > 0, "{path} is not explained");
    }
}

#[test]
fn the_last_layer_wins() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, "shards = 2\npong_timeout = 7\n").unwrap();
    let config = Config::load(Some(&file), vec![Setting::flag("--set", "shards", "3")]).unwrap();
    assert_eq!(
        (config.shards, config.pong_timeout, config.activity_timeout),
        (3, 7, 120)
    );
}

#[test]
fn more_than_the_machine_has_is_warned_of_with_numbers() {
    let config = load(&[
        ("connections.max", "100000"),
        ("http.max_sockets", "200000"),
        ("memory.limit", "1TiB"),
    ])
    .unwrap();
    let machine = Capacity {
        memory: 2 << 30,
        connections: 1000,
        sockets: 1064,
    };
    let warnings = config.beyond_machine(machine);
    assert_eq!(warnings.len(), 3);
    for (warning, words) in warnings.iter().zip([
        ["memory.limit is 1.0 TiB", "has 2.0 GiB", "MemoryMax="],
        ["connections.max is 100000", "allows 1000", "100128"],
        ["http.max_sockets is 200000", "allows 1064", "200064"],
    ]) {
        for words in words {
            assert!(warning.contains(words), "{warning}");
        }
    }
    let enough = Capacity {
        memory: 1 << 40,
        connections: 100_000,
        sockets: 200_000,
    };
    assert_eq!(config.beyond_machine(enough), Vec::<String>::new());
    let defaults = load(&[]).unwrap();
    assert_eq!(
        defaults.beyond_machine(Capacity::of_machine()),
        Vec::<String>::new()
    );
}

#[test]
fn a_refusal_names_a_setting_that_was_set() {
    for path in names::names().filter(|path| names::kind(path) == Some(names::Kind::Number)) {
        for value in ["0", "1", "999999999999999"] {
            if let Err(error) = load(&[(path, value)]) {
                let error = error.to_string();
                assert!(error.contains(path), "{path}={value}: {error}");
            }
        }
    }
}

#[test]
fn a_wrong_value_is_refused_with_its_source() {
    assert!(refused("listen", "nowhere.invalid").contains("listen in flag --set"));
    assert!(
        refused("shards", "0").contains("shards must be 1 to 64 (it was set to 0 by flag --set)")
    );
    assert!(refused("shards", "many").contains("shards in flag --set"));
    assert!(refused("ceilings.event_data", "0").contains("ceilings.event_data must be 1 to"));
    assert!(refused("ceilings.cache_bytes", "9999999999999").contains("ceilings.cache_bytes"));
    assert!(load(&[("ceilings.connections", "0")]).is_ok());
    let ceilings = load(&[("http.max_body_bytes", "2097152")])
        .unwrap()
        .ceilings;
    assert_eq!(
        (ceilings.event_data, ceilings.client_event_data),
        (2 << 20, 128 << 10)
    );
    assert_eq!(ceilings.presence_member_size, 128 << 10);
    let error = refused("ceilings.event_data", "2097152");
    assert!(
        error.contains("1048576, for which http.max_body_bytes has room"),
        "{error}"
    );
    for prefix in [
        "app", "/", "/a/", "/:x", "/*x", "/{x}", "/a b", "//a", "/..", "/a/./b", "/api/v1", "/sdk",
        "/docs/x",
    ] {
        assert!(
            refused("path_prefix", prefix).contains("path_prefix"),
            "{prefix}"
        );
    }
    assert!(load(&[("path_prefix", "/real-time/v1")]).is_ok());
    for base in ["fanfare", "/", "/fanfare/", "/a//b", "/../x", "/a?b"] {
        assert!(refused("http.base_path", base).contains("must be empty, or like"));
    }
    let both = [("http.base_path", "/api"), ("path_prefix", "/rt")];
    assert_eq!(load(&both).unwrap().client_prefix(), "/api/rt");
    assert_eq!(
        load(&[("data_dir", "1234")]).unwrap().data_dir,
        Path::new("1234")
    );
    assert!(refused("shard", "1").contains("there is no setting \"shard\"; did you mean shards?"));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, "shards = 0\n").unwrap();
    let error = Config::load(Some(&file), vec![]).unwrap_err().to_string();
    assert!(error.contains("x.toml"), "{error}");
    std::fs::write(&file, "shard = 1\n").unwrap();
    let error = Config::load(Some(&file), vec![]).unwrap_err().to_string();
    assert!(
        error.contains("x.toml") && error.contains("shard"),
        "{error}"
    );
    assert!(Config::load(Some(&folder.path().join("none.toml")), vec![]).is_err());
}

#[test]
fn defaults_follow_from_what_is_set() {
    let config = load(&[("connections.max", "8000"), ("memory.limit", "1073741824")]).unwrap();
    assert_eq!(config.network.max_connections, 1000);
    let shown = config.to_toml().unwrap();
    assert!(shown.contains("limit = 1073741824"), "{shown}");
    // Derived defaults are shown too.
    let detected = load(&[("connections.max", "0")]).unwrap();
    assert!(detected.connections.max > 0 && detected.memory.limit > 64 << 20);
    let own = load(&[
        ("connections.max", "8000"),
        ("network.max_connections", "7"),
    ])
    .unwrap();
    assert_eq!(own.network.max_connections, 7);
    assert_eq!(own.outbox.max_total_bytes, own.memory.limit / 8);
    let large = load(&[("outbox.max_bytes", "4000000000")]).unwrap();
    assert_eq!(large.network.max_waiting_bytes, 4_000_000_000);
    assert!(refused("outbox.max_app_bytes", "1000").contains("at least outbox.max_bytes"));
    assert!(refused("memory.limit", "1000").contains("memory.limit must be at least"));
    assert!(refused("memory.limit", "much").contains("memory.limit in flag --set"));
    assert!(refused("network.exempt", "nowhere").contains("network.exempt must be"));
}

#[test]
fn a_value_that_cannot_have_its_effect_is_refused_with_what_to_write() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let file = file.to_str().unwrap();
    for (path, value, words) in [
        ("data_dir", "", "must name a folder"),
        ("data_dir", file, "is a file"),
        ("log.filter", "warning", "did you mean warn?"),
        (
            "log.filter",
            "verbose",
            "off, error, warn, info, debug or trace",
        ),
        ("log.filter", "information", "did you mean info?"),
        ("log.filter", "", "must name a level"),
        ("log.filter", "fanfare=warning", "fanfare=warning"),
        ("log.filter", "info,fanfere=debug", "did you mean fanfare?"),
        ("log.filter", "a=b=c", "a=b=c"),
        ("log.format", "xml", "log.format in flag --set"),
        ("master_key", "abc", "64 hex digits"),
        ("owner.name", " ", "1 to 200 printable characters"),
        ("owner.password", "short", "10 to 1000 characters"),
        ("store.url", "mysql://x", "sqlite: or postgres:"),
        ("store.url", "sqlite::memory:", "a file"),
        ("store.url", "sqlite:x.db?mode=memory", "a file"),
        ("store.url", "sqlite:x.db?mode=ro", "read only"),
        ("store.url", "postgres://host:x/db", "is not possible"),
        ("store.listen_url", "postgres://h/db", "beside a store.url"),
        ("connections.max_subscriptions", "0", "at least 1"),
        ("outbox.max_bytes", "0", "at least 65536"),
        ("inbox.max_bytes", "0", "at least 65536"),
        ("inbox.max_bytes", "70000", "http.max_body_bytes, 1048576"),
        ("activity_timeout", "0", "1 to 3600"),
        ("pong_timeout", "0", "1 to 3600"),
        ("http.header_timeout", "0", "1 to 3600"),
        ("http.trusted_proxies", "proxy.example", "\"proxy.example\""),
        ("cluster.url", "http://h", "cluster.url"),
        ("cluster.prefix", "", "cluster.prefix"),
        ("cluster.lease", "0", "2 to 60"),
    ] {
        let error = refused(path, value);
        assert!(error.contains(words), "{path}={value}: {error}");
    }
    let listens = [
        ("store.url", "postgres://pooler:6432/db"),
        ("store.listen_url", "postgres://host/db"),
    ];
    assert!(load(&listens).is_ok());
    for filter in [
        "off",
        "WARN",
        "info,fanfare=debug",
        "fanfare::notices=trace",
        "hyper=info,1",
    ] {
        assert!(load(&[("log.filter", filter)]).is_ok(), "{filter}");
    }
}

#[test]
fn errors_of_the_file_are_one_line_and_name_what_was_meant() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    for (text, words) in [
        ("shards = \n", "line 1, column"),
        ("[limits]\nconnections = 5\n", "is a setting of an app"),
        ("[drain]\nperid = 5\n", "did you mean drain.period?"),
        ("listne = \"x\"\n", "did you mean listen?"),
        ("[drain]\nperiod = 20s # short\n", "`period = \"20s\"`"),
        ("[outbox]\nmax_bytes = 2MiB\n", "`max_bytes = \"2MiB\"`"),
        ("data_dir = /var/lib/x\n", "`data_dir = \"/var/lib/x\"`"),
        ("listen = 127.0.0.1:6001\n", "`listen = \"127.0.0.1:6001\"`"),
        (
            "[http]\ntrusted_proxies = 10.0.0.0/8, 192.0.2.7\n",
            "`trusted_proxies = \"10.0.0.0/8, 192.0.2.7\"`",
        ),
        (
            "[http]\ntrusted_proxies = [10.0.0.0/8, 192.0.2.7]\n",
            "`trusted_proxies = [\"10.0.0.0/8\", \"192.0.2.7\"]`",
        ),
        ("master_key = 00zz\n", "the line sets a secret"),
        ("[store]\nurl = postgres://h/db\n", "the line sets a secret"),
    ] {
        std::fs::write(&file, text).unwrap();
        let error = Config::load(Some(&file), vec![]).unwrap_err().to_string();
        assert!(
            error.contains(words) && error.contains("x.toml") && !error.contains(['\n', '|']),
            "{error}"
        );
        assert!(
            !error.contains("00zz") && !error.contains("postgres"),
            "{error}"
        );
    }
}

#[test]
fn lists_are_written_as_lists_or_with_commas() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    let of_file = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), vec![])
    };
    for text in [
        "[http]\ntrusted_proxies = [\"10.0.0.0/8\", \"192.0.2.7\"]\n",
        "[http]\ntrusted_proxies = \"10.0.0.0/8, 192.0.2.7\"\n",
    ] {
        let config = of_file(text).unwrap();
        assert_eq!(config.http.trusted_proxies().unwrap().len(), 2, "{text}");
    }
    let config = of_file("[network]\nexempt = []\n").unwrap();
    assert_eq!(config.network.exempt_networks().unwrap(), []);
    let config = of_file("[network]\nexempt = [\"10.0.0.0/8\"]\n").unwrap();
    assert_eq!(config.network.exempt_networks().unwrap().len(), 1);
    for wrong in ["5", "[5]", "[[\"10.0.0.0/8\"]]", "{}"] {
        let error = of_file(&format!("[http]\ntrusted_proxies = {wrong}\n")).unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("http.trusted_proxies in file")
                && error.contains("`trusted_proxies = [\"10.0.0.0/8\", \"192.0.2.7\"]`"),
            "{error}"
        );
    }
}

#[test]
fn a_wrong_type_is_answered_in_an_operators_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    let of_file = |text: &str| {
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file), vec![])
            .expect_err(text)
            .to_string()
    };
    let errors = [
        (
            of_file("shards = \"abc\""),
            &["shards in file", "x.toml", "\"abc\" is not a whole number"][..],
        ),
        (
            of_file("shards = -1"),
            &["shards", "-1 is not a whole number"],
        ),
        (
            of_file("shards = 1.5"),
            &["shards", "1.5 is not a whole number"],
        ),
        (
            of_file("demo = \"maybe\""),
            &["demo", "\"maybe\" is not true or false"],
        ),
        (
            of_file("shards = [1]"),
            &["shards", "a list is not a whole number"],
        ),
        (of_file("http = 5"), &["http in file", "5 is not a section"]),
        (
            of_file("path_prefix = 5"),
            &[
                "path_prefix",
                "5 is not text in quotes",
                "`path_prefix = \"5\"`",
            ],
        ),
        (
            of_file("data_dir = [\"/var/lib/x\"]"),
            &[
                "a list is not text in quotes",
                "`data_dir = \"/var/lib/x\"`",
            ],
        ),
        (of_file("shards = \"2\""), &["`shards = 2`"]),
        (of_file("demo = \"true\""), &["`demo = true`"]),
        (
            of_file("[drain]\nperiod = true"),
            &["true is not a time", "`period = \"20s\"`"],
        ),
        (
            of_file("[outbox]\nmax_bytes = []"),
            &["a list is not a size", "`max_bytes = \"64MiB\"`"],
        ),
        (
            of_file("[log]\nformat = \"xml\""),
            &["log.format", "\"xml\" is not one of text, json"],
        ),
        (
            of_file("[http]\nmax_body_bytes = \"x\""),
            &["http.max_body_bytes", "64MiB"],
        ),
        (
            of_file("[connections]\nmessages_per_second = 5000000000"),
            &["5000000000 is not a whole number from 0"],
        ),
        (
            refused("ceilings.cache_ttl", "abc"),
            &[
                "ceilings.cache_ttl in flag --set",
                "\"abc\" is not a whole number",
            ],
        ),
        (
            refused("pong_timeout", "abc"),
            &[
                "pong_timeout in flag --set",
                "\"abc\" is not a time in whole seconds",
            ],
        ),
    ];
    for (error, words) in errors {
        for word in words {
            assert!(error.contains(word), "{word}: {error}");
        }
        for of_rust in ["u64", "u32", "usize", "found", "invalid type", "struct"] {
            assert!(!error.contains(of_rust), "{error}");
        }
    }
}

#[test]
fn a_secret_is_not_shown_and_a_folder_is_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("x.toml");
    std::fs::write(&file, "master_key = 1234567").unwrap();
    let secret = Config::load(Some(&file), vec![]).unwrap_err().to_string();
    assert!(
        secret.contains("master_key") && !secret.contains("1234567"),
        "{secret}"
    );
    let folder = Config::load(Some(folder.path()), vec![])
        .unwrap_err()
        .to_string();
    assert!(
        folder.contains("is a folder") && folder.contains("fanfare.toml"),
        "{folder}"
    );
}
