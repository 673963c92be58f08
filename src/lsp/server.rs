//! The loop of the server: open documents, messages in, answers out.
//!
//! Every change starts a reading of the text on the [`worker`](super::worker)'s thread and ends the one before. A request waits until
//! the text that it is about has been read; if the text changes before, it is answered with "content modified", as is usual.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

use lsp_server::{Connection, ErrorCode, Message, Notification, Request, RequestId, Response};
use lsp_types::notification::{self, Notification as _};
use lsp_types::{
    CancelParams, DidChangeTextDocumentParams, DidCloseTextDocumentParams, DidOpenTextDocumentParams, InitializeParams,
    NumberOrString, PublishDiagnosticsParams, Uri,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::document::Document;
use super::library::LibraryFiles;
use super::position::Encoding;
use super::requests::{self, Context};
use super::uri;
use super::worker::{self, Done, Job};

/// What the loop waits for.
pub enum Event {
    Message(Message),
    Done(Done),
    /// The client is gone.
    Closed,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// `shutdown`, then `exit`.
    Orderly,
    /// `exit` alone, or the client went away.
    Abruptly,
}

/// Speaks with a client until it says `exit`.
///
/// # Errors
/// What is wrong with the connection, in words.
pub fn serve(connection: Connection) -> Result<Ended, String> {
    let (id, params) = match connection.initialize_start() {
        Ok(started) => started,
        // Ended before it began.
        Err(error) if error.channel_is_disconnected() => return Ok(Ended::Abruptly),
        Err(error) => return Err(error.to_string()),
    };
    let params: InitializeParams = serde_json::from_value(params).map_err(|error| format!("initialize: {error}"))?;
    let general = params.capabilities.general.as_ref();
    let encoding = Encoding::choose(general.and_then(|g| g.position_encodings.as_deref()));
    connection.initialize_finish(id, requests::capabilities(encoding)).map_err(|error| error.to_string())?;

    let (events, inbox) = channel();
    let jobs = worker::start(events.clone()).map_err(|error| error.to_string())?;
    let messages = connection.receiver.clone();
    let forward = move || {
        for message in messages {
            if events.send(Event::Message(message)).is_err() {
                return;
            }
        }
        // Nobody is left to be told if this fails.
        let _ = events.send(Event::Closed);
    };
    std::thread::Builder::new().name("messages".into()).spawn(forward).map_err(|error| error.to_string())?;
    let library = LibraryFiles::new();
    let mut server =
        Server { connection, encoding, library, jobs, documents: HashMap::new(), generation: 0, shut_down: false };
    Ok(server.run(&inbox))
}

struct Server {
    connection: Connection,
    encoding: Encoding,
    library: LibraryFiles,
    jobs: Sender<Job>,
    documents: HashMap<String, Document>,
    generation: u64,
    shut_down: bool,
}

impl Server {
    fn run(&mut self, inbox: &Receiver<Event>) -> Ended {
        while let Ok(event) = inbox.recv() {
            match event {
                Event::Message(Message::Request(request)) => self.request(request),
                Event::Message(Message::Notification(note)) if note.method == notification::Exit::METHOD => break,
                Event::Message(Message::Notification(note)) => self.notification(note),
                Event::Message(Message::Response(_)) => {}
                Event::Done(done) => self.done(done),
                Event::Closed => return Ended::Abruptly,
            }
        }
        if self.shut_down { Ended::Orderly } else { Ended::Abruptly }
    }

    /// A client that is gone is noticed where messages are read.
    fn send(&self, message: impl Into<Message>) {
        let _ = self.connection.sender.send(message.into());
    }

    fn refuse(&self, id: RequestId, code: ErrorCode, message: &str) {
        self.send(Response::new_err(id, code as i32, message.to_owned()));
    }

    fn request(&mut self, request: Request) {
        if self.shut_down {
            return self.refuse(request.id, ErrorCode::InvalidRequest, "the server is shut down");
        }
        if request.method == "shutdown" {
            self.shut_down = true;
            return self.send(Response::new_ok(request.id, Value::Null));
        }
        if !requests::is_known(&request.method) {
            let message = format!("`{}` is not answered", request.method);
            return self.refuse(request.id, ErrorCode::MethodNotFound, &message);
        }
        let Some(document) = document_of(&request.params).and_then(|uri| self.documents.get_mut(uri)) else {
            return self.refuse(request.id, ErrorCode::InvalidParams, "the document is not open");
        };
        match document.current() {
            Some(_) => self.answer(request),
            None => document.waiting.push(request),
        }
    }

    /// Answers a request about a text that has been read.
    fn answer(&self, request: Request) {
        let document = document_of(&request.params).and_then(|uri| self.documents.get(uri));
        let Some((document, analysis)) = document.and_then(|d| Some((d, d.current()?))) else {
            return self.refuse(request.id, ErrorCode::ContentModified, "the document is closed");
        };
        let context = Context {
            analysis,
            lines: &document.lines,
            uri: &document.uri,
            library: &self.library,
            encoding: self.encoding,
        };
        let work = || requests::answer(&context, &request.method, request.params.clone());
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(Ok(value)) => self.send(Response::new_ok(request.id, value)),
            Ok(Err(refusal)) => self.refuse(request.id, refusal.code, &refusal.message),
            Err(_) => self.refuse(request.id, ErrorCode::InternalError, "this is a bug in nnc"),
        }
    }

    fn notification(&mut self, note: Notification) {
        match note.method.as_str() {
            notification::DidOpenTextDocument::METHOD => {
                if let Some(DidOpenTextDocumentParams { text_document: opened }) = params(note) {
                    let document = Document::new(opened.uri.clone(), opened.version, &opened.text, self.encoding);
                    let key = opened.uri.as_str().to_owned();
                    let before = self.documents.insert(key.clone(), document);
                    self.drop_requests(before.into_iter().flat_map(|mut d| d.abandon()));
                    self.read(&key);
                }
            }
            notification::DidChangeTextDocument::METHOD => {
                if let Some(DidChangeTextDocumentParams { text_document: changed, content_changes }) = params(note) {
                    let Some(document) = self.documents.get_mut(changed.uri.as_str()) else { return };
                    document.change(content_changes, self.encoding);
                    document.version = changed.version;
                    let abandoned = document.abandon();
                    self.drop_requests(abandoned);
                    self.read(changed.uri.as_str());
                }
            }
            notification::DidCloseTextDocument::METHOD => {
                if let Some(DidCloseTextDocumentParams { text_document: closed }) = params(note) {
                    let before = self.documents.remove(closed.uri.as_str());
                    self.drop_requests(before.into_iter().flat_map(|mut d| d.abandon()));
                    self.publish(closed.uri, Vec::new(), None);
                }
            }
            notification::Cancel::METHOD => {
                if let Some(CancelParams { id }) = params(note) {
                    self.cancel(&match id {
                        NumberOrString::Number(number) => RequestId::from(number),
                        NumberOrString::String(text) => RequestId::from(text),
                    });
                }
            }
            _ => {}
        }
    }

    fn drop_requests(&self, requests: impl IntoIterator<Item = RequestId>) {
        for id in requests {
            self.refuse(id, ErrorCode::ContentModified, "the document has changed");
        }
    }

    /// A request that waits is answered at once; one that has been answered is not to be cancelled any more.
    fn cancel(&mut self, id: &RequestId) {
        let waiting = |document: &mut Document| {
            let at = document.waiting.iter().position(|request| request.id == *id)?;
            Some(document.waiting.remove(at))
        };
        if let Some(request) = self.documents.values_mut().find_map(waiting) {
            self.refuse(request.id, ErrorCode::RequestCanceled, "cancelled");
        }
    }

    /// Has the text of a document read.
    fn read(&mut self, key: &str) {
        let Some(document) = self.documents.get_mut(key) else { return };
        self.generation += 1;
        document.generation = self.generation;
        let job = Job {
            uri: key.to_owned(),
            generation: self.generation,
            name: uri::name(&document.uri),
            text: document.text.clone(),
            earlier: document.analysis.as_ref().map(|(_, analysis)| analysis.clone()),
            stop: document.stop.clone(),
        };
        // The worker catches its panics and lives as long as the server.
        let _ = self.jobs.send(job);
    }

    fn done(&mut self, done: Done) {
        let Some(document) = self.documents.get_mut(&done.uri).filter(|d| d.generation == done.generation) else {
            return;
        };
        let waiting = std::mem::take(&mut document.waiting);
        let Some(analysis) = done.analysis else {
            for request in waiting {
                self.refuse(request.id, ErrorCode::InternalError, "this is a bug in nnc");
            }
            return;
        };
        document.analysis = Some((done.generation, analysis));
        self.publish_document(&done.uri);
        for request in waiting {
            self.answer(request);
        }
    }

    fn publish_document(&self, key: &str) {
        let Some(document) = self.documents.get(key) else { return };
        let Some(analysis) = document.current() else { return };
        let context = Context {
            analysis,
            lines: &document.lines,
            uri: &document.uri,
            library: &self.library,
            encoding: self.encoding,
        };
        // The library's own files are what they are.
        let diagnostics = match self.library.holds(document.uri.as_str()) {
            true => Vec::new(),
            false => requests::diagnostics(&context),
        };
        self.publish(document.uri.clone(), diagnostics, Some(document.version));
    }

    fn publish(&self, uri: Uri, diagnostics: Vec<lsp_types::Diagnostic>, version: Option<i32>) {
        let params = PublishDiagnosticsParams { uri, diagnostics, version };
        self.send(Notification::new(notification::PublishDiagnostics::METHOD.to_owned(), params));
    }
}

/// A notification that cannot be read is ignored: there is no answer to it.
fn params<P: DeserializeOwned>(note: Notification) -> Option<P> {
    serde_json::from_value(note.params).ok()
}

/// The document that a request is about.
fn document_of(params: &Value) -> Option<&str> {
    params.get("textDocument")?.get("uri")?.as_str()
}
