//! `picloud:runtime/files`: the invocation's transactional view of the app's files.

use std::sync::Arc;

use bytes::Bytes;
use picloud_core::{
    ContentType, ErrorCode, FileListQuery, FileNow, FilePath, FileWrite, HostError, MAX_SCRIPT_FILE_BYTES,
};

use super::{Answer, Failure, answer, running};
use crate::{
    bindings::picloud::runtime::files::{FileInfo, Host},
    state::{Shared, State},
};

/// The most files of one list.
const MAX_LIST: u32 = 1_000;

/// What a file of a list costs beside its path and type.
const INFO_BYTES: usize = 16;

impl Host for State {
    async fn stat(&mut self, path: String) -> Answer<Option<FileInfo>> {
        answer(stat(self, path).await)
    }

    async fn read(&mut self, path: String) -> Answer<Vec<u8>> {
        answer(read(self, path).await)
    }

    async fn write(&mut self, path: String, content: Vec<u8>, content_type: Option<String>) -> Answer<()> {
        answer(write(self, path, content, content_type))
    }

    async fn delete(&mut self, path: String) -> Answer<()> {
        answer(delete(self, path))
    }

    async fn list(&mut self, prefix: String, after: Option<String>, limit: u32) -> Answer<Vec<FileInfo>> {
        answer(list(self, prefix, after, limit).await)
    }
}

async fn stat(state: &mut State, path: String) -> Result<Option<FileInfo>, Failure> {
    let shared = Arc::clone(&running(state)?.shared);
    shared.charge_call(path.len())?;
    let path = FilePath::new(path)?;
    let info = find(&shared, &path).await?.and_then(|now| info(&path, &now));
    shared.charge_bytes(info.as_ref().map_or(0, size_of))?;
    Ok(info)
}

async fn read(state: &mut State, path: String) -> Result<Vec<u8>, Failure> {
    let shared = Arc::clone(&running(state)?.shared);
    shared.charge_call(path.len())?;
    let path = FilePath::new(path)?;
    let Some(now) = find(&shared, &path).await? else {
        return Err(HostError::new(ErrorCode::FileNotFound, format!("there is no file \"{path}\"")).into());
    };
    // Before it is loaded: what does not fit must not be read first.
    shared.charge_bytes(usize::try_from(now.size()).unwrap_or(usize::MAX))?;
    let content = match &now {
        FileNow::Stored(file) => shared.host.file_content(file).await?,
        FileNow::Written(_) => now.content().unwrap_or_default(),
    };
    Ok(content.into())
}

fn write(
    state: &mut State,
    path: String,
    content: Vec<u8>,
    content_type: Option<String>,
) -> Result<(), Failure> {
    let shared = &running(state)?.shared;
    shared.charge_call(path.len() + content.len() + content_type.as_ref().map_or(0, String::len))?;
    let path = FilePath::new(path)?;
    if content.len() as u64 > MAX_SCRIPT_FILE_BYTES {
        let message = format!(
            "the content has {} bytes; a script writes files of at most {MAX_SCRIPT_FILE_BYTES}",
            content.len()
        );
        return Err(HostError::new(ErrorCode::TooLarge, message).into());
    }
    let content_type = content_type.map(ContentType::new).transpose()?;
    let write = FileWrite::set(&path, Bytes::from(content), content_type);
    shared.progress().kv.files.write(path, write);
    Ok(())
}

fn delete(state: &mut State, path: String) -> Result<(), Failure> {
    let shared = &running(state)?.shared;
    shared.charge_call(path.len())?;
    shared.progress().kv.files.write(FilePath::new(path)?, FileWrite::Delete);
    Ok(())
}

async fn list(
    state: &mut State,
    prefix: String,
    after: Option<String>,
    limit: u32,
) -> Result<Vec<FileInfo>, Failure> {
    let shared = Arc::clone(&running(state)?.shared);
    shared.charge_call(prefix.len() + after.as_ref().map_or(0, String::len))?;
    if !(1..=MAX_LIST).contains(&limit) {
        let message = format!("limit is {limit}; allowed is 1 to {MAX_LIST}");
        return Err(HostError::new(ErrorCode::Invalid, message).into());
    }
    for text in [Some(&prefix), after.as_ref()].into_iter().flatten() {
        if text.contains('\0') || text.len() > 512 {
            let message =
                "prefix and after must be paths or the beginning of paths: no U+0000, at most 512 bytes";
            return Err(HostError::new(ErrorCode::Invalid, message).into());
        }
    }
    let query = FileListQuery { prefix, after, limit };
    let fetch = FileListQuery { limit: shared.progress().kv.files.fetch_limit(&query), ..query.clone() };
    let found = shared.host.file_list(&fetch).await?;
    let files = shared.progress().kv.files.listed(&query, found);
    let infos: Vec<FileInfo> = files.iter().filter_map(|(path, now)| info(path, now)).collect();
    shared.charge_bytes(infos.iter().map(size_of).sum())?;
    Ok(infos)
}

/// A file as this invocation sees it.
async fn find(shared: &Shared, path: &FilePath) -> Result<Option<FileNow>, HostError> {
    let known = shared.progress().kv.files.lookup(path);
    if let Some(known) = known {
        return Ok(known);
    }
    let file = shared.host.file(path).await?;
    let mut progress = shared.progress();
    progress.kv.files.fetched(path.clone(), file);
    Ok(progress.kv.files.lookup(path).flatten())
}

fn info(path: &FilePath, now: &FileNow) -> Option<FileInfo> {
    let (content_type, modified_ms) = now.properties()?;
    Some(FileInfo {
        path: path.as_str().to_owned(),
        size: now.size(),
        content_type: content_type.as_str().to_owned(),
        modified_ms,
    })
}

fn size_of(info: &FileInfo) -> usize {
    info.path.len() + info.content_type.len() + INFO_BYTES
}
