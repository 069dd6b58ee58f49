//! Signatures of requests: those of hosted Pusher, and those of Standard Webhooks 1.0
//! (<https://www.standardwebhooks.com>).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fanfare_protocol::AppKey;
use fanfare_protocol::signature::SigningKey;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Returns the value of `webhook-signature`: for each key a version 1 signature, which is an HMAC-SHA256 over id, time
/// (Unix time in seconds) and body. Receivers accept a request if one of them is right.
pub(crate) fn standard_signature<'a>(
    keys: impl IntoIterator<Item = &'a [u8]>,
    id: &str,
    at: u64,
    body: &str,
) -> String {
    let signature = |key: &[u8]| {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(format!("{id}.{at}.").as_bytes());
        mac.update(body.as_bytes());
        format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
    };
    let all: Vec<String> = keys.into_iter().map(signature).collect();
    all.join(" ")
}

/// Returns the headers with which hosted Pusher signs a body.
pub(super) fn pusher_headers(
    key: &AppKey,
    signing: &SigningKey,
    body: &str,
) -> [(&'static str, String); 2] {
    [
        ("X-Pusher-Key", key.to_string()),
        ("X-Pusher-Signature", signing.sign(body)),
    ]
}

#[cfg(test)]
mod tests {
    use fanfare_store::webhook_secret_bytes;

    use super::*;

    #[test]
    fn a_signature_is_the_one_of_the_specification() {
        // The example of the Standard Webhooks libraries.
        let key = webhook_secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
        let sign = |keys: &[&[u8]]| {
            let body = r#"{"test": 2432232314}"#;
            let keys = keys.iter().copied();
            standard_signature(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, body)
        };
        let known = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&[&key]), known);
        // While a secret is replaced, both sign.
        let both = sign(&[&[7; 24], &key]);
        assert!(both.ends_with(&format!(" {known}")), "{both}");
    }

    #[test]
    fn a_body_is_signed_as_hosted_pusher_signs_it() {
        // A vector that was computed with another implementation of HMAC.
        let body = r#"{"time_ms":1327078148132,"events":[{"name":"channel_occupied","channel":"my-channel"}]}"#;
        let key = AppKey::parse("278d425bdf160c739803").expect("a key");
        let signing = SigningKey::new("7ad3773142a6692b25b8");
        let headers = pusher_headers(&key, &signing, body);
        assert_eq!(
            headers,
            [
                ("X-Pusher-Key", "278d425bdf160c739803".into()),
                (
                    "X-Pusher-Signature",
                    "c19001ae3963ccb13bf618e5b16ba9848e7e74df0993aa0689168e341c6833cf".into()
                ),
            ]
        );
    }
}
