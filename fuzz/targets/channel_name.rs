//! Names of channels, against a second reading of the rules (docs/protocol.md#channel-names,
//! docs/protocol.md#cache-channels, docs/protocol.md#subscription-counts): lists instead of prefixes cut off.
#![no_main]

use fanfare_protocol::channel::InvalidChannelName;
use fanfare_protocol::{ChannelKind, ChannelName};
use libfuzzer_sys::fuzz_target;

const ALLOWED: &str = "-_=@,.;0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const CACHED: [&str; 4] = [
    "cache-",
    "private-cache-",
    "private-encrypted-cache-",
    "presence-cache-",
];

// The first byte is the most bytes that a name may have.
fuzz_target!(|bytes: &[u8]| {
    let Some((&max, name)) = bytes.split_first() else {
        return;
    };
    let max = usize::from(max);
    let Ok(name) = std::str::from_utf8(name) else {
        return;
    };
    let id = name.strip_prefix("#server-to-user-");
    let plain = |text: &str| !text.is_empty() && text.chars().all(|c| ALLOWED.contains(c));
    let good = name.len() <= max && plain(id.unwrap_or(name));
    let parsed = ChannelName::parse(name, max);
    assert_eq!(parsed.is_ok(), good, "{name:?} of at most {max} bytes");
    match parsed {
        Ok(channel) => {
            assert_eq!(channel.as_str(), name);
            assert_eq!(channel.to_string(), name);
            assert_eq!(channel.user(), id);
            assert_eq!(channel.kind(), kind(name));
            assert_eq!(ChannelKind::of(name), kind(name));
            assert_eq!(
                channel.keeps_last(),
                CACHED.iter().any(|prefix| name.starts_with(prefix))
            );
            let counted = match kind(name) {
                ChannelKind::Public | ChannelKind::Private => true,
                ChannelKind::Encrypted | ChannelKind::Presence | ChannelKind::ServerToUser => false,
            };
            assert_eq!(channel.is_counted(), counted);
            assert!(ChannelName::parse(name, name.len() - 1).is_err());
        }
        Err(error) => {
            // A byte takes ten where it is shown as an escape.
            assert!(error.to_string().len() <= 300 + 10 * max, "{error}");
            match error {
                InvalidChannelName::Empty => assert_eq!(name, ""),
                InvalidChannelName::TooLong { length, max: told } => {
                    assert_eq!((length, told), (name.len(), max));
                    assert!(length > max);
                }
                InvalidChannelName::Character {
                    position,
                    character,
                    ..
                } => {
                    assert_eq!(name.chars().nth(position - 1), Some(character));
                    let before: String = name.chars().take(position - 1).collect();
                    let before = before.strip_prefix("#server-to-user-").unwrap_or(&before);
                    assert!(
                        before.is_empty() || plain(before),
                        "an earlier one is wrong"
                    );
                    assert!(!ALLOWED.contains(character));
                }
                InvalidChannelName::Reserved(_) => {
                    assert!(name.starts_with('#') && id.is_none_or(str::is_empty));
                }
            }
        }
    }
});

fn kind(name: &str) -> ChannelKind {
    match name.split_once('-') {
        Some(("private", rest)) if rest.starts_with("encrypted-") => ChannelKind::Encrypted,
        Some(("private", _)) => ChannelKind::Private,
        Some(("presence", _)) => ChannelKind::Presence,
        Some(("#server", _)) => ChannelKind::ServerToUser,
        _ => ChannelKind::Public,
    }
}
