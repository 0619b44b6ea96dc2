//! A host in memory: kv data, the app's scripts, a log.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use picloud_guest::{
    Answer, Event, FileInfo, Host, HostError, IncomingAnswer, Interpreter, KvEntry, LogLevel, MessageOptions,
    OutgoingMail, OutgoingRequest,
};

use super::case::{self, Data};

/// Nesting of `app::invoke`, as the sandbox has it.
const MAX_DEPTH: usize = 4;

/// The host; what scripts did to it can be looked at afterwards.
#[derive(Default)]
pub(crate) struct MemoryHost {
    pub(crate) kv: RefCell<Data>,
    /// Content and type of each file.
    files: RefCell<BTreeMap<String, (Vec<u8>, String)>>,
    pub(crate) logs: RefCell<Vec<(String, String)>>,
    /// What was sent, as [`case::sent`] writes it.
    pub(crate) sent: RefCell<Vec<String>>,
    pub(crate) scripts: BTreeMap<String, String>,
    depth: Cell<usize>,
    random: Cell<u64>,
    /// Itself, for nested calls.
    this: RefCell<std::rc::Weak<MemoryHost>>,
}

impl MemoryHost {
    pub(crate) fn new(kv: Data, scripts: BTreeMap<String, String>) -> Rc<Self> {
        let host = Rc::new(Self { kv: RefCell::new(kv), scripts, ..Self::default() });
        *host.this.borrow_mut() = Rc::downgrade(&host);
        host
    }

    /// Notes what is sent, and gives its id.
    fn sent_as(&self, what: &str, fields: &[(&str, String)], bytes: usize) -> Result<String, HostError> {
        if bytes > 256 << 10 {
            return Err(error("too_large", "it is larger than event_bytes"));
        }
        let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut sent = self.sent.borrow_mut();
        sent.push(case::sent(what, &fields));
        Ok(format!("00000000-0000-7000-8000-{:012}", sent.len()))
    }

    fn run(self: &Rc<Self>, script: &str, event: &str) -> Result<String, HostError> {
        let source =
            self.scripts.get(script).ok_or_else(|| error("script_not_found", "there is no such script"))?;
        let mut interpreter = Interpreter::new(self.clone());
        interpreter.build(script, source).map_err(|fault| error(&fault.code, &fault.message))?;
        match interpreter.handle(Event::Invoke(event.into())) {
            Ok(Answer::Value(value)) => Ok(value),
            Ok(Answer::Http(_)) => Err(error("internal", "a direct call got a response")),
            Err(fault) => Err(error(&fault.code, &fault.message)),
        }
    }
}

/// Names of queues and topics, in short.
fn check_name(what: &str, name: &str) -> Result<(), HostError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "_.:/-".contains(c);
    if name.is_empty() || name.len() > 128 || !name.chars().all(allowed) {
        return Err(error("invalid", &format!("{what} contains what is not allowed; allowed are a-z")));
    }
    Ok(())
}

fn error(code: &str, message: &str) -> HostError {
    HostError { code: code.into(), message: message.into() }
}

fn check(collection: &str, key: &str) -> Result<(), HostError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | ':' | '-');
    if collection.is_empty() || !collection.chars().all(allowed) {
        return Err(error("invalid", "the collection has a wrong name"));
    }
    if key.is_empty() || key.len() > 512 || key.contains('\0') {
        return Err(error("invalid", "the key is wrong"));
    }
    Ok(())
}

/// What the platform checks of a path, in short.
fn check_path(path: &str) -> Result<(), HostError> {
    let is_wrong = |part: &str| matches!(part, "" | "." | "..") || part.len() > 255;
    if path.split('/').any(is_wrong)
        || path.len() > 512
        || path.contains(|c: char| c == '\\' || c.is_control())
    {
        return Err(error("invalid", "the file path is wrong; allowed are segments"));
    }
    Ok(())
}

fn file_info(path: &str, content: &[u8], content_type: &str) -> FileInfo {
    let (path, content_type) = (path.to_owned(), content_type.to_owned());
    FileInfo { path, size: content.len() as u64, content_type, modified_ms: 1_700_000_000_123 }
}

impl Host for MemoryHost {
    fn now(&self) -> i64 {
        1_700_000_000_123
    }

    /// `SplitMix64`: good enough to look random.
    fn random(&self, len: usize) -> Vec<u8> {
        let next = || {
            self.random.set(self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
            let mut z = self.random.get();
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    fn log(&self, level: LogLevel, message: &str) {
        let level = match level {
            LogLevel::Debug => "debug",
            LogLevel::Info => "info",
            LogLevel::Warn => "warn",
            LogLevel::Error => "error",
        };
        self.logs.borrow_mut().push((level.into(), message.into()));
    }

    fn kv_get(&self, collection: &str, key: &str) -> Result<Option<String>, HostError> {
        check(collection, key)?;
        Ok(self.kv.borrow().get(&(collection.into(), key.into())).cloned())
    }

    fn kv_set(
        &self,
        collection: &str,
        key: &str,
        value: &str,
        _ttl_ms: Option<u64>,
    ) -> Result<(), HostError> {
        check(collection, key)?;
        self.kv.borrow_mut().insert((collection.into(), key.into()), value.into());
        Ok(())
    }

    fn kv_delete(&self, collection: &str, key: &str) -> Result<(), HostError> {
        check(collection, key)?;
        self.kv.borrow_mut().remove(&(collection.into(), key.into()));
        Ok(())
    }

    fn kv_list(
        &self,
        collection: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<KvEntry>, HostError> {
        check(collection, "any")?;
        let kv = self.kv.borrow();
        let entries = kv.iter().filter(|((c, key), _)| {
            c == collection && key.starts_with(prefix) && after.is_none_or(|after| key.as_str() > after)
        });
        let entries = entries.map(|((_, key), value)| KvEntry { key: key.clone(), value: value.clone() });
        Ok(entries.take(limit as usize).collect())
    }

    fn file_stat(&self, path: &str) -> Result<Option<FileInfo>, HostError> {
        check_path(path)?;
        let files = self.files.borrow();
        Ok(files.get(path).map(|(content, content_type)| file_info(path, content, content_type)))
    }

    fn file_read(&self, path: &str) -> Result<Vec<u8>, HostError> {
        check_path(path)?;
        let found = self.files.borrow().get(path).map(|(content, _)| content.clone());
        found.ok_or_else(|| error("file_not_found", &format!("there is no file \"{path}\"")))
    }

    fn file_write(&self, path: &str, content: &[u8], content_type: Option<&str>) -> Result<(), HostError> {
        check_path(path)?;
        if content.len() > 1 << 20 {
            return Err(error("too_large", "a script writes files of at most 1048576 bytes"));
        }
        if content_type.is_some_and(|given| !given.contains('/') || given.contains(['\r', '\n'])) {
            return Err(error("invalid", "the content type is wrong"));
        }
        let of_path = if std::path::Path::new(path).extension().is_some_and(|extension| extension == "txt") {
            "text/plain; charset=utf-8"
        } else {
            "application/octet-stream"
        };
        let file = (content.to_vec(), content_type.unwrap_or(of_path).to_owned());
        self.files.borrow_mut().insert(path.to_owned(), file);
        Ok(())
    }

    fn file_delete(&self, path: &str) -> Result<(), HostError> {
        check_path(path)?;
        self.files.borrow_mut().remove(path);
        Ok(())
    }

    fn file_list(&self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<FileInfo>, HostError> {
        let files = self.files.borrow();
        let found = files
            .iter()
            .filter(|(path, _)| path.starts_with(prefix) && after.is_none_or(|after| path.as_str() > after));
        let found = found.map(|(path, (content, content_type))| file_info(path, content, content_type));
        Ok(found.take(limit as usize).collect())
    }

    /// The secrets of every case; one is set and not declared.
    fn secret(&self, name: &str) -> Result<String, HostError> {
        match name {
            "token" => Ok("s3cret-token".into()),
            "hidden" => Err(error("secret_not_declared", "the script does not declare the secret")),
            _ => Err(error("secret_not_found", "there is no such secret")),
        }
    }

    fn variable(&self, name: &str) -> Result<Option<String>, HostError> {
        Ok((name == "REGION").then(|| "eu".into()))
    }

    fn http(&self, request: OutgoingRequest) -> Result<IncomingAnswer, HostError> {
        let OutgoingRequest { method, url, headers, body, .. } = request;
        let served = case::serve(&method, &url, &headers, &body);
        let (status, headers, body) = served.map_err(|(code, message)| error(code, message))?;
        Ok(IncomingAnswer { status, headers, body, url })
    }

    fn send(&self, queue: &str, body: &str, options: &MessageOptions) -> Result<String, HostError> {
        check_name("queue name", queue)?;
        if options.delay_ms > 31_536_000_000 {
            return Err(error("invalid", "the delay is too long; allowed are 0 to 31536000000"));
        }
        if !(-100..=100).contains(&options.priority) {
            return Err(error("invalid", "the priority is wrong; allowed are -100 to 100"));
        }
        let keys = [("dedupe_key", &options.dedupe_key), ("group", &options.group)];
        for (name, key) in keys.iter().filter_map(|(name, key)| Some((name, key.as_ref()?))) {
            if !(1..=128).contains(&key.len()) || key.contains('\0') {
                return Err(error("invalid", &format!("{name} is of a wrong length")));
            }
        }
        let number = |number: i128| if number == 0 { String::new() } else { number.to_string() };
        let fields = [
            ("delay_ms", number(options.delay_ms.into())),
            ("priority", number(options.priority.into())),
            ("dedupe_key", options.dedupe_key.clone().unwrap_or_default()),
            ("group", options.group.clone().unwrap_or_default()),
        ];
        self.sent_as(&format!("queue {queue} {body}"), &fields, body.len())
    }

    fn publish(&self, topic: &str, body: &str) -> Result<String, HostError> {
        check_name("topic", topic)?;
        self.sent_as(&format!("topic {topic} {body}"), &[], body.len())
    }

    fn mail(&self, mail: OutgoingMail) -> Result<String, HostError> {
        let receivers = [&mail.to, &mail.cc, &mail.bcc].into_iter().flatten();
        if receivers.clone().next().is_none() {
            return Err(error("invalid", "email: `to` is empty; at least one receiver is needed"));
        }
        if mail.text.is_none() && mail.html.is_none() {
            return Err(error(
                "invalid",
                "email: the mail has neither `text` nor `html`; one of them is needed",
            ));
        }
        for line in receivers.chain([&mail.subject]) {
            if let Some(character) = line.chars().find(|c| c.is_control()) {
                return Err(error("invalid", &format!("it contains {character:?}; allowed is one line")));
            }
        }
        if let Some(bad) =
            [&mail.to, &mail.cc, &mail.bcc].into_iter().flatten().find(|text| !text.contains('@'))
        {
            return Err(error("invalid", &format!("{bad:?}; allowed is NAME@DOMAIN, or Name <NAME@DOMAIN>")));
        }
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let fields = [
            ("to", mail.to.join(",")),
            ("cc", mail.cc.join(",")),
            ("bcc", mail.bcc.join(",")),
            ("reply_to", text(&mail.reply_to)),
            ("from_name", text(&mail.from_name)),
            ("subject", mail.subject.clone()),
            ("text", text(&mail.text)),
            ("html", text(&mail.html)),
            ("in_reply_to", text(&mail.in_reply_to)),
        ];
        let bytes = fields.iter().map(|(_, value)| value.len()).sum();
        self.sent_as("email", &fields, bytes)
    }

    fn invoke(&self, script: &str, event: &str) -> Result<String, HostError> {
        if self.depth.get() >= MAX_DEPTH {
            return Err(error("invoke_depth_exceeded", "calls are nested more than four deep"));
        }
        let this = self.this.borrow().upgrade().ok_or_else(|| error("internal", "the host is gone"))?;
        self.depth.set(self.depth.get() + 1);
        let (before, sent) = (this.kv.borrow().clone(), this.sent.borrow().len());
        let result = this.run(script, event);
        if result.is_err() {
            // A call that failed leaves no write, and sends nothing.
            *this.kv.borrow_mut() = before;
            this.sent.borrow_mut().truncate(sent);
        }
        self.depth.set(self.depth.get() - 1);
        result
    }

    fn library(&self, name: &str) -> Result<Option<String>, HostError> {
        Ok(self.scripts.get(name).cloned())
    }
}
