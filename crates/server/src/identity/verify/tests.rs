use std::collections::HashMap;

use fanfare_protocol::{AppId, Identity};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{DecodingKey, EncodingKey, encode};
use serde_json::json;

use super::*;
use crate::clock::unix_seconds;
use crate::identity::Identities;
use crate::identity::jwks::tests::Provider as KeyServer;

const SECRET: &str = "a secret of the tests, 32 bytes long or more";

macro_rules! pem {
    ($name:literal) => {
        include_str!(concat!("../../../tests/keys/", $name, ".pem"))
    };
}

/// Signs with one of the tests' keys.
fn sign(algorithm: Algorithm, claims: &Value) -> String {
    sign_as(&Header::new(algorithm), &private_key(algorithm), claims)
}

fn sign_as(header: &Header, key: &EncodingKey, claims: &Value) -> String {
    encode(header, claims, key).unwrap()
}

fn private_key(algorithm: Algorithm) -> EncodingKey {
    match algorithm {
        Algorithm::HS256 => EncodingKey::from_secret(SECRET.as_bytes()),
        Algorithm::RS256 => EncodingKey::from_rsa_pem(pem!("rsa2048").as_bytes()).unwrap(),
        Algorithm::ES256 => EncodingKey::from_ec_pem(pem!("ec-p256").as_bytes()).unwrap(),
        _ => EncodingKey::from_ed_pem(pem!("ed25519").as_bytes()).unwrap(),
    }
}

/// Returns a public key as providers publish it.
pub(in crate::identity) fn jwk(algorithm: Algorithm, kid: &str) -> Value {
    jwk_of(&private_key(algorithm), algorithm, kid)
}

fn jwk_of(key: &EncodingKey, algorithm: Algorithm, kid: &str) -> Value {
    let mut jwk = Jwk::from_encoding_key(key, algorithm).unwrap();
    jwk.common.key_id = Some(kid.into());
    serde_json::to_value(jwk).unwrap()
}

fn compile(provider: &Value) -> CompiledIdentity {
    let identity: Identity = serde_json::from_value(json!({"providers": [provider]})).unwrap();
    Identities::new(false).compile(&identity).unwrap()
}

fn refused(provider: &Value) -> String {
    let identity = json!({"providers": [provider]});
    let identity: Identity = serde_json::from_value(identity).unwrap();
    Identities::new(false)
        .compile(&identity)
        .unwrap_err()
        .to_string()
}

/// Returns the claims of a token that is valid for a minute, with changes. A change to `null` removes a claim.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({"sub": "1", "exp": unix_seconds() + 60});
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
        .as_object_mut()
        .unwrap()
        .retain(|_, value| !value.is_null());
    claims
}

fn providers() -> HashMap<&'static str, Value> {
    HashMap::from([
        ("HS256", json!({"algorithms": ["HS256"], "secret": SECRET})),
        (
            "RS256",
            json!({"algorithms": ["RS256"], "public_key": pem!("rsa2048.pub")}),
        ),
        (
            "ES256",
            json!({"algorithms": ["ES256"], "public_key": pem!("ec-p256.pub")}),
        ),
        (
            "EdDSA",
            json!({"algorithms": ["EdDSA"], "public_key": pem!("ed25519.pub")}),
        ),
    ])
}

#[tokio::test]
async fn each_algorithm_verifies_its_own_tokens_and_no_others() {
    let all = [
        Algorithm::HS256,
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::EdDSA,
    ];
    for (name, provider) in providers() {
        let identity = compile(&provider);
        for algorithm in all {
            let verified = identity.verify(&sign(algorithm, &claims(&json!({})))).await;
            if format!("{algorithm:?}") == name {
                assert_eq!(
                    verified.unwrap().text("sub").as_deref(),
                    Some("1"),
                    "{name}"
                );
            } else {
                assert_eq!(
                    verified.unwrap_err(),
                    TokenError::Algorithm,
                    "{name} {algorithm:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_signature_with_another_key_is_wrong() {
    let others = [
        (Algorithm::HS256, EncodingKey::from_secret(&[b'x'; 32])),
        (
            Algorithm::RS256,
            EncodingKey::from_rsa_pem(pem!("rsa2048-other").as_bytes()).unwrap(),
        ),
    ];
    for (algorithm, key) in others {
        let identity = compile(&providers()[&*format!("{algorithm:?}")]);
        let token = sign_as(&Header::new(algorithm), &key, &claims(&json!({})));
        assert_eq!(
            identity.verify(&token).await.unwrap_err(),
            TokenError::Signature
        );
    }
    for (name, algorithm) in [
        ("RS256", Algorithm::RS256),
        ("ES256", Algorithm::ES256),
        ("EdDSA", Algorithm::EdDSA),
    ] {
        let identity = compile(&providers()[name]);
        let token = sign(algorithm, &claims(&json!({})));
        let other = sign(algorithm, &claims(&json!({"sub": "2"})));
        let (signed, _) = token.rsplit_once('.').unwrap();
        let (_, signature) = other.rsplit_once('.').unwrap();
        let mixed = format!("{signed}.{signature}");
        assert_eq!(
            identity.verify(&mixed).await.unwrap_err(),
            TokenError::Signature,
            "{name}"
        );
    }
}

#[tokio::test]
async fn a_public_key_is_no_secret() {
    let pem = pem!("rsa2048.pub");
    let identity = compile(&providers()["RS256"]);
    for secret in [pem, pem.trim()] {
        let key = EncodingKey::from_secret(secret.as_bytes());
        let token = sign_as(&Header::new(Algorithm::HS256), &key, &claims(&json!({})));
        assert_eq!(
            identity.verify(&token).await.unwrap_err(),
            TokenError::Algorithm
        );
    }
}

#[tokio::test]
async fn a_token_without_a_signature_is_none() {
    let identity = compile(&providers()["HS256"]);
    let signed = sign(Algorithm::HS256, &claims(&json!({})));
    let (message, signature) = signed.rsplit_once('.').unwrap();
    let (_, payload) = message.split_once('.').unwrap();
    // {"alg":"none"}, {"alg":"None"}, {"typ":"JWT"}
    for header in [
        "eyJhbGciOiJub25lIn0",
        "eyJhbGciOiJOb25lIn0",
        "eyJ0eXAiOiJKV1QifQ",
    ] {
        for signature in ["", signature] {
            let token = format!("{header}.{payload}.{signature}");
            assert_eq!(
                identity.verify(&token).await.unwrap_err(),
                TokenError::Malformed,
                "{header}"
            );
        }
    }
    let unsigned = format!("{message}.");
    assert_eq!(
        identity.verify(&unsigned).await.unwrap_err(),
        TokenError::Signature
    );
    for garbage in [
        "", ".", "..", "a.b.c", "....", message, "é.\0.x", "Bearer x",
    ] {
        assert_eq!(
            identity.verify(garbage).await.unwrap_err(),
            TokenError::Malformed,
            "{garbage}"
        );
    }
}

#[tokio::test]
async fn a_token_of_more_than_8_kib_is_not_looked_at() {
    let identity = compile(&providers()["HS256"]);
    let token = |length: usize| sign(Algorithm::HS256, &claims(&json!({"x": "x".repeat(length)})));
    assert!(identity.verify(&token(5000)).await.is_ok());
    assert_eq!(
        identity.verify(&token(8000)).await.unwrap_err(),
        TokenError::TooLong
    );
    assert_eq!(
        identity.verify(&"x".repeat(1 << 20)).await.unwrap_err(),
        TokenError::TooLong
    );
}

#[tokio::test]
async fn an_extension_that_must_be_understood_is_not() {
    let identity = compile(&providers()["HS256"]);
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".into()]);
    let token = sign_as(&header, &private_key(Algorithm::HS256), &claims(&json!({})));
    assert_eq!(
        identity.verify(&token).await.unwrap_err(),
        TokenError::Malformed
    );
}

#[tokio::test]
async fn a_claim_of_the_wrong_kind_is_not_taken_for_a_wrong_algorithm() {
    let identity = json!({"providers": [providers()["RS256"], providers()["HS256"]]});
    let identity: Identity = serde_json::from_value(identity).unwrap();
    let identity = Identities::new(false).compile(&identity).unwrap();
    for odd in [
        json!({"sub": {"id": 7}}),
        json!({"sub": ["a"]}),
        json!({"jti": {}}),
    ] {
        let verified = identity
            .verify(&sign(Algorithm::HS256, &claims(&odd)))
            .await;
        match verified {
            // A claim that nothing reads may be anything.
            Ok(_) => {}
            Err(error) => assert!(
                matches!(error, TokenError::Claim(_) | TokenError::Claims),
                "{odd}: {error}"
            ),
        }
    }
}

#[tokio::test]
async fn claims_must_be_the_providers_for_this_app_and_of_now() {
    let mut provider = providers().remove("HS256").unwrap();
    provider["issuer"] = json!("https://id.example.com");
    provider["audience"] = json!(["app", "other"]);
    provider["leeway_seconds"] = json!(30);
    let identity = compile(&provider);
    let now = unix_seconds();
    let good = json!({"iss": "https://id.example.com", "aud": "app"});
    for (changes, expected) in [
        (json!({}), None),
        (json!({"aud": ["x", "other"]}), None),
        (json!({"exp": now - 20}), None),
        (json!({"exp": now - 40}), Some(TokenError::Expired)),
        (json!({"exp": 0}), Some(TokenError::Expired)),
        (json!({"exp": null}), Some(TokenError::Claim("exp"))),
        (
            json!({"exp": format!("{}", now + 60)}),
            Some(TokenError::Claim("exp")),
        ),
        (json!({"exp": -1}), Some(TokenError::Claim("exp"))),
        (json!({"nbf": now - 60}), None),
        (json!({"nbf": now + 20}), None),
        (json!({"nbf": now + 60}), Some(TokenError::Early)),
        (json!({"nbf": "soon"}), Some(TokenError::Claim("nbf"))),
        (
            json!({"iss": "https://id.example.com/"}),
            Some(TokenError::Issuer),
        ),
        (json!({"iss": null}), Some(TokenError::Issuer)),
        (json!({"iss": 7}), Some(TokenError::Issuer)),
        (
            json!({"iss": ["https://id.example.com"]}),
            Some(TokenError::Issuer),
        ),
        (json!({"aud": "App"}), Some(TokenError::Audience)),
        (json!({"aud": []}), Some(TokenError::Audience)),
        (json!({"aud": null}), Some(TokenError::Claim("aud"))),
        (json!({"aud": {"app": 1}}), Some(TokenError::Claim("aud"))),
    ] {
        let mut token = good.clone();
        token
            .as_object_mut()
            .unwrap()
            .extend(changes.as_object().unwrap().clone());
        let verified = identity
            .verify(&sign(Algorithm::HS256, &claims(&token)))
            .await;
        assert_eq!(verified.err(), expected, "{changes}");
    }
}

#[tokio::test]
async fn an_audience_is_looked_at_only_where_one_is_expected() {
    let identity = compile(&providers()["ES256"]);
    let token = sign(
        Algorithm::ES256,
        &claims(&json!({"aud": "anybody", "iss": "anybody"})),
    );
    assert!(identity.verify(&token).await.is_ok());
}

#[tokio::test]
async fn any_one_of_several_providers_will_do() {
    let all: Vec<Value> = providers().into_values().collect();
    let identity: Identity = serde_json::from_value(json!({ "providers": all })).unwrap();
    let identity = Identities::new(false).compile(&identity).unwrap();
    for algorithm in [
        Algorithm::HS256,
        Algorithm::RS256,
        Algorithm::ES256,
        Algorithm::EdDSA,
    ] {
        assert!(
            identity
                .verify(&sign(algorithm, &claims(&json!({}))))
                .await
                .is_ok()
        );
        // The error is that of the provider that issued the token.
        let expired = sign(algorithm, &claims(&json!({"exp": 1})));
        assert_eq!(
            identity.verify(&expired).await.unwrap_err(),
            TokenError::Expired
        );
    }
}

#[test]
fn weak_and_foreign_keys_are_refused_when_they_are_set() {
    for (algorithm, pem) in [
        ("RS256", pem!("rsa1024.pub")),
        ("RS256", pem!("ec-p256.pub")),
        ("RS256", pem!("ed25519.pub")),
        ("ES256", pem!("ec-p384.pub")),
        ("ES256", pem!("rsa2048.pub")),
        ("EdDSA", pem!("ec-p256.pub")),
        (
            "RS256",
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----",
        ),
        ("RS256", "-----BEGIN PUBLIC KEY-----"),
    ] {
        let said = refused(&json!({"algorithms": [algorithm], "public_key": pem}));
        assert!(
            said.contains("providers[0].public_key"),
            "{algorithm} {pem}: {said}"
        );
    }
}

#[test]
fn a_key_set_is_not_at_an_inner_address() {
    for url in [
        "https://127.0.0.1/keys",
        "https://[::1]/",
        "https://169.254.169.254/",
        "https://",
        "https://a@b/",
    ] {
        let said = refused(&json!({"algorithms": ["RS256"], "jwks_url": url}));
        assert!(said.contains("providers[0].jwks_url"), "{url}: {said}");
    }
}

#[test]
fn what_cannot_be_set_grants_nothing_any_more() {
    let identities = Identities::new(false);
    let app = AppId::parse("1").unwrap();
    let read = |value: Value| serde_json::from_value::<Identity>(value).unwrap();
    let good = read(json!({"providers": [providers()["HS256"]]}));
    assert!(identities.set(&app, Some(&good)).is_ok());
    assert!(identities.of(&app).is_some());
    assert!(
        identities
            .set(&app, Some(&read(json!({"providers": [{}]}))))
            .is_err()
    );
    assert!(identities.of(&app).is_none());
    assert!(identities.set(&app, Some(&good)).is_ok());
    assert!(identities.set(&app, None).is_ok());
    assert!(identities.of(&app).is_none());
}

#[test]
fn no_text_of_a_configuration_holds_its_secret() {
    let identity = compile(&providers()["HS256"]);
    assert!(!format!("{identity:?}").contains(SECRET));
}

/// Creates an app whose provider publishes its keys at a server of the test.
fn published(server: &KeyServer) -> CompiledIdentity {
    let provider =
        json!({"algorithms": ["RS256", "ES256", "EdDSA"], "jwks_url": server.url("/keys")});
    let identity: Identity = serde_json::from_value(json!({"providers": [provider]})).unwrap();
    Identities::new(true).compile(&identity).unwrap()
}

fn with_kid(algorithm: Algorithm, kid: &str) -> String {
    let mut header = Header::new(algorithm);
    header.kid = Some(kid.into());
    sign_as(&header, &private_key(algorithm), &claims(&json!({})))
}

#[tokio::test]
async fn published_keys_of_each_kind_verify() {
    let all = [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA];
    let server = KeyServer::start(&all.map(|it| jwk(it, &format!("{it:?}")))).await;
    let identity = published(&server);
    for algorithm in all {
        let token = with_kid(algorithm, &format!("{algorithm:?}"));
        assert!(identity.verify(&token).await.is_ok(), "{algorithm:?}");
        // Without a name, the only key of the kind is used.
        assert!(
            identity
                .verify(&sign(algorithm, &claims(&json!({}))))
                .await
                .is_ok()
        );
    }
    let confused = with_kid(Algorithm::RS256, "ES256");
    assert_eq!(
        identity.verify(&confused).await.unwrap_err(),
        TokenError::UnknownKey
    );
    assert_eq!(server.requests(), 1);
}

#[tokio::test]
async fn published_keys_for_other_purposes_do_not_count() {
    let changed = |field: &str, value: Value| {
        let mut key = jwk(Algorithm::RS256, "k");
        key[field] = value;
        key
    };
    // 1,032 bits.
    let weak = jwk(Algorithm::RS256, "k")["n"].as_str().unwrap()[..172].to_owned();
    let p384 = EncodingKey::from_ec_pem(pem!("ec-p384").as_bytes()).unwrap();
    for (key, algorithm) in [
        (changed("use", json!("enc")), Algorithm::RS256),
        (changed("alg", json!("RS512")), Algorithm::RS256),
        (changed("alg", json!("PS256")), Algorithm::RS256),
        (changed("alg", json!("something new")), Algorithm::RS256),
        (changed("key_ops", json!(["encrypt"])), Algorithm::RS256),
        (changed("kty", json!("XYZ")), Algorithm::RS256),
        (changed("n", json!("not base64!")), Algorithm::RS256),
        (changed("n", json!(weak)), Algorithm::RS256),
        (jwk_of(&p384, Algorithm::ES384, "k"), Algorithm::ES256),
        (
            json!({"kty": "oct", "kid": "k", "k": "AAAA"}),
            Algorithm::RS256,
        ),
        (json!(7), Algorithm::RS256),
    ] {
        // A key that can't be used doesn't spoil the others of the set.
        let server = KeyServer::start(&[key.clone(), jwk(Algorithm::EdDSA, "good")]).await;
        let identity = published(&server);
        let verified = identity.verify(&with_kid(algorithm, "k")).await;
        assert_eq!(verified.unwrap_err(), TokenError::UnknownKey, "{key}");
        assert!(
            identity
                .verify(&with_kid(Algorithm::EdDSA, "good"))
                .await
                .is_ok()
        );
    }
    for (field, value) in [("use", json!("sig")), ("key_ops", json!(["verify"]))] {
        let server = KeyServer::start(&[changed(field, value)]).await;
        assert!(
            published(&server)
                .verify(&with_kid(Algorithm::RS256, "k"))
                .await
                .is_ok(),
            "{field}"
        );
    }
}

#[tokio::test]
async fn a_token_that_does_not_say_which_of_several_keys_is_refused() {
    let other = EncodingKey::from_rsa_pem(pem!("rsa2048-other").as_bytes()).unwrap();
    let keys = [
        jwk(Algorithm::RS256, "a"),
        jwk_of(&other, Algorithm::RS256, "b"),
    ];
    let server = KeyServer::start(&keys).await;
    let identity = published(&server);
    let token = sign(Algorithm::RS256, &claims(&json!({})));
    assert_eq!(
        identity.verify(&token).await.unwrap_err(),
        TokenError::AmbiguousKey
    );
    assert!(
        identity
            .verify(&with_kid(Algorithm::RS256, "a"))
            .await
            .is_ok()
    );
    let wrong = with_kid(Algorithm::RS256, "b");
    assert_eq!(
        identity.verify(&wrong).await.unwrap_err(),
        TokenError::Signature
    );
}

#[tokio::test]
async fn a_key_is_known_after_a_rotation() {
    let server = KeyServer::start(&[jwk(Algorithm::RS256, "old")]).await;
    let identity = published(&server);
    assert!(
        identity
            .verify(&with_kid(Algorithm::RS256, "old"))
            .await
            .is_ok()
    );
    let new = with_kid(Algorithm::ES256, "new");
    assert_eq!(
        identity.verify(&new).await.unwrap_err(),
        TokenError::UnknownKey
    );
    server.publish(&[jwk(Algorithm::ES256, "new")]);
    super::super::jwks::tests::advance(11).await;
    assert!(identity.verify(&new).await.is_ok());
    let old = with_kid(Algorithm::RS256, "old");
    assert_eq!(
        identity.verify(&old).await.unwrap_err(),
        TokenError::UnknownKey
    );
}

#[test]
fn a_key_read_from_pem_is_the_one_published() {
    let key = DecodingKey::from_rsa_pem(pem!("rsa2048.pub").as_bytes()).unwrap();
    let from_pem =
        serde_json::to_value(Jwk::from_decoding_key(&key, Some(Algorithm::RS256)).unwrap())
            .unwrap();
    assert_eq!(from_pem["n"], jwk(Algorithm::RS256, "k")["n"]);
}
