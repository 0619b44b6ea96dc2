//! [`Host`] by the component's imports.

use super::{
    bindings::{
        picloud::runtime::{apps, events, files, http, images, kv, logging, secrets, variables},
        wasi::{clocks::wall_clock, random::random},
    },
    convert::host_error,
};
use crate::{
    FileInfo, Host, HostError, IncomingAnswer, KvEntry, LogLevel, MessageOptions, OutgoingMail,
    OutgoingRequest,
};

/// The imports; no state of its own.
pub(super) struct Imports;

impl Host for Imports {
    fn now(&self) -> i64 {
        let now = wall_clock::now();
        let milliseconds = now.seconds.saturating_mul(1_000) + u64::from(now.nanoseconds / 1_000_000);
        i64::try_from(milliseconds).unwrap_or(i64::MAX)
    }

    fn random(&self, len: usize) -> Vec<u8> {
        random::get_random_bytes(len as u64)
    }

    fn log(&self, level: LogLevel, message: &str) {
        logging::log(
            match level {
                LogLevel::Debug => logging::Level::Debug,
                LogLevel::Info => logging::Level::Info,
                LogLevel::Warn => logging::Level::Warn,
                LogLevel::Error => logging::Level::Error,
            },
            message,
        );
    }

    fn kv_get(&self, collection: &str, key: &str) -> Result<Option<String>, HostError> {
        kv::get(collection, key).map_err(host_error)
    }

    fn kv_set(&self, collection: &str, key: &str, value: &str, ttl_ms: Option<u64>) -> Result<(), HostError> {
        kv::set(collection, key, value, ttl_ms).map_err(host_error)
    }

    fn kv_delete(&self, collection: &str, key: &str) -> Result<(), HostError> {
        kv::delete(collection, key).map_err(host_error)
    }

    fn kv_list(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, HostError> {
        let entries = kv::list(collection, prefix, after, limit).map_err(host_error)?;
        Ok(entries.into_iter().map(|entry| KvEntry { key: entry.key, value: entry.value }).collect())
    }

    fn file_stat(&self, path: &str) -> Result<Option<FileInfo>, HostError> {
        Ok(files::stat(path).map_err(host_error)?.map(file_info))
    }

    fn file_read(&self, path: &str) -> Result<Vec<u8>, HostError> {
        files::read(path).map_err(host_error)
    }

    fn file_write(&self, path: &str, content: &[u8], content_type: Option<&str>) -> Result<(), HostError> {
        files::write(path, content, content_type).map_err(host_error)
    }

    fn file_delete(&self, path: &str) -> Result<(), HostError> {
        files::delete(path).map_err(host_error)
    }

    fn file_list(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<FileInfo>, HostError> {
        let found = files::list(prefix, after, limit).map_err(host_error)?;
        Ok(found.into_iter().map(file_info).collect())
    }

    fn secret(&self, name: &str) -> Result<String, HostError> {
        secrets::get(name).map_err(host_error)
    }

    fn variable(&self, name: &str) -> Result<Option<String>, HostError> {
        variables::get(name).map_err(host_error)
    }

    fn http(&self, request: OutgoingRequest) -> Result<IncomingAnswer, HostError> {
        let answer = http::send(&http::Request {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body,
            timeout_ms: request.timeout_ms,
            redirects: request.redirects,
        });
        let answer = answer.map_err(host_error)?;
        Ok(IncomingAnswer {
            status: answer.status,
            headers: answer.headers,
            body: answer.body,
            url: answer.url,
        })
    }

    fn send(&self, queue: &str, body: &str, options: &MessageOptions) -> Result<String, HostError> {
        let options = events::MessageOptions {
            delay_ms: options.delay_ms,
            priority: options.priority,
            dedupe_key: options.dedupe_key.clone(),
            group: options.group.clone(),
        };
        events::send(queue, body, &options).map_err(host_error)
    }

    fn publish(&self, topic: &str, body: &str) -> Result<String, HostError> {
        events::publish(topic, body).map_err(host_error)
    }

    fn mail(&self, mail: OutgoingMail) -> Result<String, HostError> {
        let OutgoingMail { from_name, to, cc, bcc, reply_to, subject, text, html, in_reply_to } = mail;
        let mail =
            events::OutgoingMail { from_name, to, cc, bcc, reply_to, subject, text, html, in_reply_to };
        events::mail(&mail).map_err(host_error)
    }

    fn invoke(&self, script: &str, event: &str) -> Result<String, HostError> {
        apps::invoke(script, event).map_err(host_error)
    }

    fn library(&self, name: &str) -> Result<Option<String>, HostError> {
        images::library(name).map_err(host_error)
    }
}

fn file_info(info: files::FileInfo) -> FileInfo {
    let files::FileInfo { path, size, content_type, modified_ms } = info;
    FileInfo { path, size, content_type, modified_ms }
}
