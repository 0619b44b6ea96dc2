//! What the interpreter asks of its host: in the sandbox the imports of `wit/`, in tests an object in memory.

/// Everything a script can reach outside itself.
pub trait Host {
    /// Time since the Unix epoch, in milliseconds.
    fn now(&self) -> i64;

    /// Fresh secure random bytes.
    fn random(&self, len: usize) -> Vec<u8>;

    /// Writes to the script's log.
    fn log(&self, level: LogLevel, message: &str);

    /// The value of a key as JSON text; `None` where it is absent or expired.
    fn kv_get(&self, collection: &str, key: &str) -> Result<Option<String>, HostError>;

    /// Sets a value of JSON text, for `ttl_ms` milliseconds where given.
    fn kv_set(&self, collection: &str, key: &str, value: &str, ttl_ms: Option<u64>) -> Result<(), HostError>;

    /// Removes a key; removing what is absent is no error.
    fn kv_delete(&self, collection: &str, key: &str) -> Result<(), HostError>;

    /// Entries whose key starts with `prefix` and comes after `after`, in byte order; 1 to 1,000 of them.
    fn kv_list(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, HostError>;

    /// What is known of a file; `None` where there is none of this path.
    fn file_stat(&self, path: &str) -> Result<Option<FileInfo>, HostError>;

    /// The content of a file, which must be there.
    fn file_read(&self, path: &str) -> Result<Vec<u8>, HostError>;

    /// Gives a file a content, of the type that its path tells if none is given.
    fn file_write(&self, path: &str, content: &[u8], content_type: Option<&str>) -> Result<(), HostError>;

    /// Removes a file; removing what is absent is no error.
    fn file_delete(&self, path: &str) -> Result<(), HostError>;

    /// Files whose path starts with `prefix` and comes after `after`, in byte order; 1 to 1,000 of them.
    fn file_list(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<FileInfo>, HostError>;

    /// A secret, which the host gives only to scripts that declare it.
    fn secret(&self, name: &str) -> Result<String, HostError>;

    /// A plain variable; `None` where it is not set.
    fn variable(&self, name: &str) -> Result<Option<String>, HostError>;

    /// Calls another service over HTTP and waits for the whole answer, of any status.
    fn http(&self, request: OutgoingRequest) -> Result<IncomingAnswer, HostError>;

    /// Puts a message with a body of JSON text into a queue when the invocation commits, and gives its id.
    fn send(&self, queue: &str, body: &str, options: &MessageOptions) -> Result<String, HostError>;

    /// Publishes a body of JSON text on a topic when the invocation commits, and gives the event's id.
    fn publish(&self, topic: &str, body: &str) -> Result<String, HostError>;

    /// Sends an e-mail when the invocation commits, and gives the event's id.
    fn mail(&self, mail: OutgoingMail) -> Result<String, HostError>;

    /// Runs another script of the app with an event of JSON text, and gives its value as JSON text.
    fn invoke(&self, script: &str, event: &str) -> Result<String, HostError>;

    /// The source of the app's script `name`; asked only while a script is compiled.
    fn library(&self, name: &str) -> Result<Option<String>, HostError>;
}

/// A host call that was refused. Scripts can catch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostError {
    /// A code of docs/SEMANTICS.md.
    pub code: String,
    /// For the script's author.
    pub message: String,
}

/// A request to another service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingRequest {
    /// The method, upper case.
    pub method: String,
    /// The whole URL.
    pub url: String,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body; empty for none.
    pub body: Vec<u8>,
    /// How long it may take, in milliseconds; the host's default if there is none.
    pub timeout_ms: Option<u64>,
    /// How many redirects are followed; the host's default if there is none.
    pub redirects: Option<u32>,
}

/// The answer of another service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IncomingAnswer {
    /// The status.
    pub status: u16,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The whole body.
    pub body: Vec<u8>,
    /// The URL that answered.
    pub url: String,
}

/// How a message is to be handled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageOptions {
    /// Not before so long after the commit, in milliseconds.
    pub delay_ms: u64,
    /// Those with more are handled first.
    pub priority: i64,
    /// A second message with this key is dropped.
    pub dedupe_key: Option<String>,
    /// Messages of one group are handled in order, one at a time.
    pub group: Option<String>,
}

/// An e-mail that a script sends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutgoingMail {
    /// The display name of the sender.
    pub from_name: Option<String>,
    /// The receivers, as `address` or `Name <address>`.
    pub to: Vec<String>,
    /// Receivers of a copy.
    pub cc: Vec<String>,
    /// Receivers of a copy that the others do not see.
    pub bcc: Vec<String>,
    /// Where answers go.
    pub reply_to: Option<String>,
    /// The subject.
    pub subject: String,
    /// The plain text.
    pub text: Option<String>,
    /// The HTML.
    pub html: Option<String>,
    /// The `Message-ID` of the mail that this answers.
    pub in_reply_to: Option<String>,
}

/// One entry of a kv collection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// Its key.
    pub key: String,
    /// Its value as JSON text.
    pub value: String,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInfo {
    /// Its path.
    pub path: String,
    /// Length of its content, in bytes.
    pub size: u64,
    /// Its media type.
    pub content_type: String,
    /// When it was last written, in milliseconds since the Unix epoch.
    pub modified_ms: i64,
}

/// Severity of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// For the author while developing; the level of `debug`.
    Debug,
    /// The level of `print`.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}
