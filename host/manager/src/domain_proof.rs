//! Looks in DNS for the proof that a host may be served for an app.

use std::{net::SocketAddr, time::Duration};

use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts},
    net::runtime::TokioRuntimeProvider,
    proto::rr::RData,
};
use picloud_core::{DomainChallenge, DomainName, ErrorCode};
use tokio::{sync::Semaphore, time::timeout};

use crate::error::ApiError;

/// The longest that one look takes, waiting for a turn included.
const MOST_TIME: Duration = Duration::from_secs(8);

/// How long a name server has for one answer, and how often it is asked.
const ANSWER_TIME: Duration = Duration::from_secs(2);
const ATTEMPTS: usize = 2;

/// Looks at the same time.
const TURNS: usize = 4;

/// Records of the name that an error shows, and how much of each.
const SHOWN_RECORDS: usize = 3;
const SHOWN_CHARS: usize = 80;

/// Asks name servers for proofs.
pub(crate) struct DomainProofs {
    server: Option<SocketAddr>,
    turns: Semaphore,
}

impl DomainProofs {
    /// Asks this name server; those of the machine (`/etc/resolv.conf`) if it is `None`.
    pub(crate) fn new(server: Option<SocketAddr>) -> Self {
        Self { server, turns: Semaphore::new(TURNS) }
    }

    /// Whether the host's TXT record has the proof; if not, the error says what was found in its place.
    pub(crate) async fn look(
        &self,
        domain: &DomainName,
        challenge: &DomainChallenge,
    ) -> Result<(), ApiError> {
        let record = DomainChallenge::record(domain);
        let found = timeout(MOST_TIME, self.records(&record))
            .await
            .unwrap_or_else(|_| Err("no name server answered in time; try again later".to_owned()));
        let texts = found.map_err(|problem| unproven(&record, challenge, &problem))?;
        let proof = challenge.proof();
        if texts.iter().any(|text| text.trim_ascii() == proof.as_bytes()) {
            return Ok(());
        }
        Err(unproven(&record, challenge, &described(&texts)))
    }

    async fn records(&self, name: &str) -> Result<Vec<Vec<u8>>, String> {
        // It is never closed.
        let _turn = self.turns.acquire().await.map_err(|error| error.to_string())?;
        let resolver = self.resolver().map_err(|error| {
            tracing::error!(%error, "the name servers of this machine cannot be found");
            "the platform knows no name server; its log says why".to_owned()
        })?;
        // The dot at the end keeps the machine's own search domains out of it.
        match resolver.txt_lookup(format!("{name}.")).await {
            Ok(lookup) => Ok(lookup.answers().iter().filter_map(|record| text(&record.data)).collect()),
            Err(error) if error.is_no_records_found() => Ok(Vec::new()),
            Err(error) => {
                tracing::debug!(%error, name, "a proof could not be looked up");
                Err("the name servers failed; try again later".to_owned())
            }
        }
    }

    /// A resolver that has seen nothing yet, so that a record is found as soon as it is there.
    fn resolver(&self) -> Result<TokioResolver, hickory_resolver::net::NetError> {
        let mut builder = match self.server {
            None => TokioResolver::builder_tokio()?,
            Some(server) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                    connection.port = server.port();
                    connection
                });
                let server = NameServerConfig::new(server.ip(), true, connections.into());
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.timeout = ANSWER_TIME;
        options.attempts = ATTEMPTS;
        options.cache_size = 0;
        options.use_hosts_file = ResolveHosts::Never;
        builder.build()
    }
}

/// The text of a record; long ones come in parts.
fn text(data: &RData) -> Option<Vec<u8>> {
    let RData::TXT(txt) = data else { return None };
    Some(txt.txt_data.concat())
}

fn described(texts: &[Vec<u8>]) -> String {
    if texts.is_empty() {
        return "there is no such record yet".to_owned();
    }
    let shown = texts.iter().take(SHOWN_RECORDS).map(|text| {
        let text = String::from_utf8_lossy(text);
        let text: String = text.chars().filter(|c| !c.is_control()).take(SHOWN_CHARS).collect();
        format!("\"{text}\"")
    });
    let shown = shown.collect::<Vec<_>>().join(", ");
    let more = if texts.len() > SHOWN_RECORDS { " and others" } else { "" };
    format!("it is {shown}{more}")
}

fn unproven(record: &str, challenge: &DomainChallenge, found: &str) -> ApiError {
    let proof = challenge.proof();
    let detail = format!(
        "the TXT record {record} has to be \"{proof}\", but {found}. New records can take some minutes to be seen"
    );
    ApiError::new(ErrorCode::DomainUnproven, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_shown_in_short_and_without_control_characters() {
        assert_eq!(described(&[]), "there is no such record yet");
        let long = "x".repeat(300).into_bytes();
        let shown = described(&[b"a\x1b[31m\xff".to_vec(), long, b"c".to_vec(), b"d".to_vec()]);
        assert_eq!(shown, format!("it is \"a[31m\u{fffd}\", \"{}\", \"c\" and others", "x".repeat(80)));
    }
}
