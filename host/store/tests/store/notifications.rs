//! Whether it is noticed that notifications do not arrive.

use std::path::PathBuf;

use picloud_store::{DatabaseAddress, Store, StoreConfig, testing::TestDatabase};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, UnixStream, tcp::OwnedWriteHalf, unix::OwnedReadHalf},
};

/// What PostgreSQL sends where a notification comes.
const NOTIFICATION: u8 = b'A';

/// Passes on what a server says, all but notifications.
async fn answers(mut server: OwnedReadHalf, mut client: OwnedWriteHalf) -> std::io::Result<()> {
    loop {
        let kind = server.read_u8().await?;
        let length = server.read_u32().await?;
        let mut body = vec![0; length as usize - 4];
        server.read_exact(&mut body).await?;
        if kind != NOTIFICATION {
            client.write_u8(kind).await?;
            client.write_u32(length).await?;
            client.write_all(&body).await?;
        }
    }
}

/// Something between a client and the database that keeps notifications, as a pool in transaction mode does.
async fn without_notifications(database: &TestDatabase) -> StoreConfig {
    let DatabaseAddress::Socket { directory, port, database, user } = database.config().address else {
        panic!("test databases have a socket");
    };
    let socket: PathBuf = directory.join(format!(".s.PGSQL.{port}"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let server = UnixStream::connect(&socket).await.unwrap();
            let (mut asks, answered) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            tokio::spawn(async move { copy(&mut asks, &mut to_server).await });
            tokio::spawn(answers(from_server, answered));
        }
    });
    StoreConfig::new(DatabaseAddress::Url(format!("postgres://{user}@{address}/{database}?sslmode=disable")))
}

#[tokio::test]
async fn it_is_noticed_whether_notifications_arrive() {
    let database = TestDatabase::create().await;
    let store = database.store().await;
    assert_eq!(store.notifications_arrive(), None);
    let _listener = store.changes().await.unwrap();
    assert_eq!(store.notifications_arrive(), Some(true));

    let store = Store::connect(without_notifications(&database).await).await.unwrap();
    let _listener = store.changes().await.unwrap();
    assert_eq!(store.notifications_arrive(), Some(false));
}
