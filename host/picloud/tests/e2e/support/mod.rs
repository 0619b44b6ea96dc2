//! Servers, the command line, and a client that can send what no decent client would.

mod cli;
pub(crate) mod events;
mod http;
mod mail;
mod server;

pub(crate) use self::{
    cli::{hmac, program, run, run_plain},
    http::{Response, connect, exchange, get, post_json, request},
    mail::deliver,
    server::{App, Server, fill, home, shared, shared_app},
};
