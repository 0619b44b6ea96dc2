//! Asks PostgreSQL whether it lets us in: the start of its protocol, up to the answer to the start-up message.

use std::{io, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use super::NAME;

/// Protocol version 3.0.
const PROTOCOL: u32 = 196_608;

/// The longest answer that is read.
const MAX_ANSWER: u32 = 16 * 1024;

/// What PostgreSQL answered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It lets us in.
    Ready,
    /// It is not there yet, or still starting.
    Starting,
    /// It refuses us.
    Refused(String),
}

/// Connects to the socket and says who we are.
pub(super) async fn ping(socket: &Path) -> Answer {
    match exchange(socket).await {
        Ok(answer) => answer,
        Err(_) => Answer::Starting,
    }
}

async fn exchange(socket: &Path) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket).await?;
    let parameters = format!("user\0{NAME}\0database\0{NAME}\0\0");
    stream.write_u32(parameters.len() as u32 + 8).await?;
    stream.write_u32(PROTOCOL).await?;
    stream.write_all(parameters.as_bytes()).await?;
    let kind = stream.read_u8().await?;
    let length = stream.read_u32().await?.saturating_sub(4);
    let mut body = vec![0; length.min(MAX_ANSWER) as usize];
    stream.read_exact(&mut body).await?;
    // Terminate, so that the server's log has no complaint about a lost connection.
    let _ = stream.write_all(b"X\0\0\0\x04").await;
    Ok(understand(kind, &body))
}

fn understand(kind: u8, body: &[u8]) -> Answer {
    match kind {
        b'R' if body == [0; 4] => Answer::Ready,
        b'R' => Answer::Refused("it asks for a password".into()),
        // An error is fields of one letter and a text: C is the SQLSTATE, M the message.
        _ => {
            let field = |letter: u8| {
                let mut fields = body.split(|byte| *byte == 0);
                let found = fields.find(|field| field.first() == Some(&letter));
                found.map(|field| String::from_utf8_lossy(&field[1..]).into_owned()).unwrap_or_default()
            };
            // 57P03 is cannot_connect_now: starting, stopping or in recovery.
            if field(b'C') == "57P03" { Answer::Starting } else { Answer::Refused(field(b'M')) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_told_apart() {
        assert_eq!(understand(b'R', &[0; 4]), Answer::Ready);
        let starting = b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0";
        assert_eq!(understand(b'E', starting), Answer::Starting);
        let refused = b"SFATAL\0C28000\0MPeer authentication failed\0\0";
        assert_eq!(understand(b'E', refused), Answer::Refused("Peer authentication failed".into()));
    }
}
