//! The standard environment variables of OpenTelemetry.

use std::collections::BTreeMap;
use std::fs;
use std::str::FromStr;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;
use reqwest::{Certificate, Url};

use super::sampler::Sampler;

/// What is sampled if the environment doesn't say.
const DEFAULT_RATIO: f64 = 0.01;

/// How traces are sampled and exported.
#[derive(Debug)]
pub(super) struct Settings {
    pub(super) endpoint: Url,
    /// Headers of each export, which may hold credentials.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) timeout: Duration,
    pub(super) certificate: Option<Certificate>,
    pub(super) sampler: Sampler,
    /// Most spans that wait.
    pub(super) max_queue: usize,
    /// Most spans of one export.
    pub(super) max_batch: usize,
    /// How long a span waits for others to be exported with.
    pub(super) delay: Duration,
    /// Attributes of this process, with its `service.name`.
    pub(super) resource: BTreeMap<String, String>,
}

/// The variables, of which empty ones are as absent.
struct Variables<'a>(&'a BTreeMap<String, String>);

impl Settings {
    /// Returns the settings, or `None` if nothing is to be exported.
    pub(super) fn read(variables: &BTreeMap<String, String>) -> Result<Option<Self>, String> {
        let variables = Variables(variables);
        let is_disabled = variables.choice("OTEL_SDK_DISABLED", &["false", "true"])? == "true";
        let exporter = variables.choice("OTEL_TRACES_EXPORTER", &["otlp", "none"])?;
        if is_disabled || exporter == "none" {
            return Ok(None);
        }
        let Some(endpoint) = variables.endpoint()? else {
            return Ok(None);
        };
        variables.check_protocol()?;
        variables.check_unsupported()?;
        let max_queue = variables.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048, 1..=1_000_000)?;
        let max_batch = variables.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512, 1..=1_000_000)?;
        if max_batch > max_queue {
            return Err(format!(
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE is {max_batch}, and at most OTEL_BSP_MAX_QUEUE_SIZE, {max_queue}, spans \
                 wait to be exported; make the batch smaller or the queue larger"
            ));
        }
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let delay = variables.number("OTEL_BSP_SCHEDULE_DELAY", 5_000, 0..=3_600_000)?;
        let of_batch = variables.number("OTEL_BSP_EXPORT_TIMEOUT", 30_000, 1..=3_600_000)?;
        let of_request = variables.of_signal("TIMEOUT").map_or(Ok(10_000), |name| {
            variables.number(&name, 10_000, 1..=3_600_000)
        })?;
        Ok(Some(Self {
            endpoint,
            headers: variables.headers()?,
            timeout: Duration::from_millis(of_request.min(of_batch)),
            certificate: variables.certificate()?,
            sampler: variables.sampler()?,
            max_queue: size(max_queue),
            max_batch: size(max_batch),
            delay: Duration::from_millis(delay),
            resource: variables.resource()?,
        }))
    }
}

impl Variables<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name)?.trim();
        (!value.is_empty()).then_some(value)
    }

    /// Returns the name of the exporter's variable that is set: the one for traces, or else the one for all signals.
    fn of_signal(&self, suffix: &str) -> Option<String> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"]
            .into_iter()
            .map(|prefix| format!("{prefix}{suffix}"))
            .find(|name| self.get(name).is_some())
    }

    /// Returns one of a few values, of which the first is the default.
    fn choice(&self, name: &str, choices: &[&'static str]) -> Result<&'static str, String> {
        let Some(value) = self.get(name) else {
            return Ok(choices[0]);
        };
        let found = choices.iter().find(|one| one.eq_ignore_ascii_case(value));
        found.copied().ok_or_else(|| {
            let (default, choices) = (choices[0], choices.join(", "));
            format!("{name} is {value:?}, and must be one of {choices}; unset it for {default}")
        })
    }

    fn number(
        &self,
        name: &str,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
    ) -> Result<u64, String> {
        let Some(value) = self.get(name) else {
            return Ok(default);
        };
        let number = value.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| {
            let unit = if name.contains("SIZE") { "" } else { " (milliseconds)" };
            format!(
                "{name} is {value:?}, and must be a whole number from {} to {}{unit}; unset it for {default}",
                range.start(),
                range.end()
            )
        })
    }

    /// Returns the address for traces. The variable for all signals has no path for them yet.
    fn endpoint(&self) -> Result<Option<Url>, String> {
        let Some(name) = self.of_signal("ENDPOINT") else {
            return Ok(None);
        };
        let value = self.get(&name).unwrap_or_default();
        // The value isn't shown, because it may hold a password.
        let wrong = |rule: &str| {
            format!(
                "{name} {rule}; write the collector's address for OTLP over HTTP, such as http://127.0.0.1:4318"
            )
        };
        let mut url = Url::parse(value).map_err(|error| wrong(&format!("is no URL ({error})")))?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return Err(wrong("must begin with http:// or https:// and a host"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong(
                "must not hold a user or a password (OTEL_EXPORTER_OTLP_HEADERS is for credentials)",
            ));
        }
        if !name.contains("TRACES") {
            let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Ok(Some(url))
    }

    fn check_protocol(&self) -> Result<(), String> {
        let Some(name) = self.of_signal("PROTOCOL") else {
            return Ok(());
        };
        match self.get(&name).unwrap_or_default() {
            "http/protobuf" => Ok(()),
            other => Err(format!(
                "{name} is {other:?}, and traces are exported as http/protobuf alone; unset it, and give the endpoint the \
                 collector's port for HTTP, which is 4318 by default"
            )),
        }
    }

    /// Refuses variables that would have no effect although the export depends on them.
    fn check_unsupported(&self) -> Result<(), String> {
        for suffix in ["CLIENT_KEY", "CLIENT_CERTIFICATE"] {
            if let Some(name) = self.of_signal(suffix) {
                return Err(format!(
                    "{name} is set, and client certificates are not supported; export to a collector on this machine, \
                     which has one, or use OTEL_EXPORTER_OTLP_HEADERS"
                ));
            }
        }
        match self.of_signal("COMPRESSION") {
            Some(name) => self.choice(&name, &["none", "gzip"]).map(drop),
            None => Ok(()),
        }
    }

    fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
        let Some(name) = self.of_signal("HEADERS") else {
            return Ok(Vec::new());
        };
        let pairs = self.pairs(&name)?.into_iter().map(|(key, value)| {
            // The value isn't shown, because it may be a secret.
            let wrong = |what: &str| {
                format!("{name} has {what} for {key:?}; write name=value, with % codes for commas")
            };
            let header = HeaderName::from_str(&key).map_err(|_| wrong("an invalid name"))?;
            let value = HeaderValue::from_str(&value).map_err(|_| wrong("an invalid value"))?;
            Ok((header, value))
        });
        pairs.collect()
    }

    /// Returns the pairs of a list `a=1,b=2`, whose values have % codes.
    fn pairs(&self, name: &str) -> Result<Vec<(String, String)>, String> {
        let list = self.get(name).unwrap_or_default();
        let parts = list
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let pairs = parts.enumerate().map(|(at, part)| {
            let pair = part.split_once('=').and_then(|(key, value)| {
                let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
                Some((key.trim().to_owned(), value.into_owned()))
            });
            pair.filter(|(key, _)| !key.is_empty()).ok_or_else(|| {
                let number = at + 1;
                format!("{name} is a list such as a=1,b=2, and its part number {number} is no name=value; write it so")
            })
        });
        pairs.collect()
    }

    fn certificate(&self) -> Result<Option<Certificate>, String> {
        let Some(name) = self.of_signal("CERTIFICATE") else {
            return Ok(None);
        };
        let file = self.get(&name).unwrap_or_default();
        let text = fs::read(file).map_err(|error| error.to_string());
        let read =
            text.and_then(|text| Certificate::from_pem(&text).map_err(|error| error.to_string()));
        read.map(Some).map_err(|error| {
            format!("{name} names {file:?}, which can't be used: {error}; it must be a certificate in PEM form")
        })
    }

    fn sampler(&self) -> Result<Sampler, String> {
        const SAMPLERS: [&str; 6] = [
            "parentbased_traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "traceidratio",
            "always_on",
            "always_off",
        ];
        let name = self.choice("OTEL_TRACES_SAMPLER", &SAMPLERS)?;
        let ratio = match self.get("OTEL_TRACES_SAMPLER_ARG") {
            // What the standard says of a sampler that was asked for.
            None if self.get("OTEL_TRACES_SAMPLER").is_some() => 1.0,
            None => DEFAULT_RATIO,
            Some(value) => {
                let ratio = value
                    .parse()
                    .ok()
                    .filter(|ratio| (0.0..=1.0).contains(ratio));
                ratio.ok_or_else(|| {
                    format!(
                        "OTEL_TRACES_SAMPLER_ARG is {value:?}, and must be a number from 0 to 1; write 0.01 for one trace \
                         of a hundred"
                    )
                })?
            }
        };
        let ratio = match name.trim_start_matches("parentbased_") {
            "always_on" => 1.0,
            "always_off" => 0.0,
            _ => ratio,
        };
        Ok(Sampler::new(ratio, name.starts_with("parentbased_")))
    }

    fn resource(&self) -> Result<BTreeMap<String, String>, String> {
        let mut resource = BTreeMap::from([
            ("service.name".to_owned(), "fanfare".to_owned()),
            (
                "service.version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            ),
            (
                "service.instance.id".to_owned(),
                hex::encode(rand::random::<[u8; 16]>()),
            ),
        ]);
        resource.extend(self.pairs("OTEL_RESOURCE_ATTRIBUTES")?);
        if let Some(name) = self.get("OTEL_SERVICE_NAME") {
            resource.insert("service.name".into(), name.into());
        }
        Ok(resource)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDPOINT: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");

    fn read(variables: &[(&str, &str)]) -> Result<Option<Settings>, String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Settings::read(&variables.iter().map(owned).collect())
    }

    fn with(variables: &[(&str, &str)]) -> Settings {
        read(&[&[ENDPOINT], variables].concat()).unwrap().unwrap()
    }

    fn error(variable: (&str, &str)) -> String {
        read(&[ENDPOINT, variable]).expect_err(variable.0)
    }

    #[test]
    fn without_an_endpoint_there_are_no_traces() {
        assert!(read(&[]).unwrap().is_none());
        assert!(
            read(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")])
                .unwrap()
                .is_none()
        );
        for off in [
            ("OTEL_SDK_DISABLED", "true"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ] {
            assert!(read(&[ENDPOINT, off]).unwrap().is_none(), "{off:?}");
        }
        assert!(
            read(&[ENDPOINT, ("OTEL_SDK_DISABLED", "False")])
                .unwrap()
                .is_some()
        );
    }

    #[test]
    fn the_endpoint_for_all_signals_gets_a_path_and_the_one_for_traces_does_not() {
        let endpoint =
            |variables: &[(&str, &str)]| read(variables).unwrap().unwrap().endpoint.to_string();
        assert_eq!(endpoint(&[ENDPOINT]), "http://127.0.0.1:4318/v1/traces");
        let below = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector/otlp/");
        assert_eq!(endpoint(&[below]), "https://collector/otlp/v1/traces");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://b:1/spans");
        assert_eq!(endpoint(&[ENDPOINT, own]), "http://b:1/spans");
    }

    #[test]
    fn defaults_are_those_of_the_standard_but_one_trace_of_a_hundred() {
        let settings = with(&[]);
        assert_eq!(settings.sampler, Sampler::new(0.01, true));
        assert_eq!((settings.max_queue, settings.max_batch), (2048, 512));
        assert_eq!(settings.delay, Duration::from_secs(5));
        assert_eq!(settings.timeout, Duration::from_secs(10));
        assert_eq!(settings.resource["service.name"], "fanfare");
        assert!(settings.headers.is_empty());
    }

    #[test]
    fn variables_have_their_effect() {
        let sampler = |name, arg| {
            with(&[
                ("OTEL_TRACES_SAMPLER", name),
                ("OTEL_TRACES_SAMPLER_ARG", arg),
            ])
            .sampler
        };
        assert_eq!(sampler("traceidratio", "0.5"), Sampler::new(0.5, false));
        assert_eq!(
            sampler("parentbased_traceidratio", ""),
            Sampler::new(1.0, true)
        );
        assert_eq!(sampler("always_on", "0.5"), Sampler::new(1.0, false));
        assert_eq!(
            sampler("parentbased_always_off", ""),
            Sampler::new(0.0, true)
        );
        assert_eq!(sampler("", "0.2"), Sampler::new(0.2, true));
        let settings = with(&[
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "authorization=Basic%20QUJD, x-a = 1",
            ),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "20000"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2000"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            (
                "OTEL_RESOURCE_ATTRIBUTES",
                "service.name=other,deployment.environment.name=test%2C1",
            ),
            ("OTEL_SERVICE_NAME", "chat"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "100"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "10"),
        ]);
        let headers: Vec<_> = settings
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(headers, [("authorization", "Basic QUJD"), ("x-a", "1")]);
        assert_eq!(settings.timeout, Duration::from_secs(2));
        assert_eq!(settings.resource["service.name"], "chat");
        assert_eq!(settings.resource["deployment.environment.name"], "test,1");
        assert_eq!((settings.max_queue, settings.max_batch), (100, 10));
    }

    #[test]
    fn an_invalid_value_is_told_with_its_rule_and_what_to_do() {
        for (variable, words) in [
            (
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
                ["\"grpc\"", "4318"],
            ),
            (
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
                ["\"http/json\"", "unset it"],
            ),
            (
                ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
                ["\"jaeger_remote\"", "parentbased_traceidratio"],
            ),
            (("OTEL_TRACES_SAMPLER_ARG", "1%"), ["\"1%\"", "0.01"]),
            (("OTEL_TRACES_SAMPLER_ARG", "NaN"), ["from 0 to 1", "0.01"]),
            (
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
                ["\"10s\"", "milliseconds"],
            ),
            (
                ("OTEL_BSP_MAX_QUEUE_SIZE", "0"),
                ["from 1", "unset it for 2048"],
            ),
            (
                ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "5000"),
                ["OTEL_BSP_MAX_QUEUE_SIZE, 2048", "smaller"],
            ),
            (("OTEL_SDK_DISABLED", "yes"), ["\"yes\"", "false, true"]),
            (
                ("OTEL_TRACES_EXPORTER", "zipkin"),
                ["\"zipkin\"", "otlp, none"],
            ),
            (
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
                ["\"zstd\"", "none, gzip"],
            ),
            (
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/k.pem"),
                ["not supported", "HEADERS"],
            ),
            (
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/none.pem"),
                ["/none.pem", "PEM"],
            ),
            (
                ("OTEL_RESOURCE_ATTRIBUTES", "a=1,b"),
                ["number 2", "name=value"],
            ),
            (
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "collector:4318"),
                ["http://", "4318"],
            ),
            (
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "4318"),
                ["no URL", "http://127.0.0.1:4318"],
            ),
        ] {
            let error = error(variable);
            assert!(error.contains(variable.0), "{error}");
            for word in words {
                assert!(error.contains(word), "{word}: {error}");
            }
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        for variable in [
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=se\u{7}cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,se cret"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a b=se cret"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://user:secret@host"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "secret"),
        ] {
            let error = error(variable);
            assert!(
                error.contains(variable.0) && !error.contains("cret\u{7}"),
                "{error}"
            );
            assert!(
                !error.contains("secret") && !error.contains("se cret"),
                "{error}"
            );
        }
    }
}
