//! The language server as an editor meets it: a scripted client that starts `nnc lsp` and speaks JSON-RPC with it.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The document of most tests.
const URI: &str = "file:///models/blobs.nn";

const MODEL: &str = "/// Twice the input.
layer twice(x, by = 2) { by * x }

model Blobs(hidden = 8) {
    input  x: f32[batch, 2]           // Größe 𝛼
    target label: index(2)[batch]
    inner = x |> twice |> dense(hidden) |> relu
    logits = inner |> dense(2)
    output probs = softmax(logits)
    loss ce = cross_entropy(logits, label)
}

train {
    minimize ce with adam(lr=0.01)
}
";

/// A running server. What it says is read until what is waited for comes.
struct Client {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    next: i64,
    notes: Vec<Value>,
    cache: TempDir,
}

impl Client {
    fn start(capabilities: Value) -> (Client, Value) {
        let cache = tempfile::tempdir().unwrap();
        let mut process = Command::new(env!("CARGO_BIN_EXE_nnc"))
            .args(["lsp", "--stdio"])
            .env("XDG_CACHE_HOME", cache.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (process.stdin.take().unwrap(), BufReader::new(process.stdout.take().unwrap()));
        let mut client = Client { process, input, output, next: 1, notes: Vec::new(), cache };
        let answer = client.ask("initialize", json!({ "capabilities": capabilities }));
        client.tell("initialized", json!({}));
        (client, answer)
    }

    /// A client that has one document open.
    fn with(text: &str) -> Client {
        let (mut client, _) = Client::start(json!({}));
        client.open(URI, text);
        client
    }

    fn send(&mut self, mut message: Value) {
        message["jsonrpc"] = json!("2.0");
        let text = message.to_string();
        write!(self.input, "Content-Length: {}\r\n\r\n{text}", text.len()).unwrap();
        self.input.flush().unwrap();
    }

    fn tell(&mut self, method: &str, params: Value) {
        self.send(json!({ "method": method, "params": params }));
    }

    fn request(&mut self, method: &str, params: Value) -> i64 {
        self.next += 1;
        self.send(json!({ "id": self.next, "method": method, "params": params }));
        self.next
    }

    /// The next message of the server.
    fn receive(&mut self) -> Value {
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "the server has ended");
            match line.trim() {
                "" => break,
                header => {
                    if let Some(number) = header.strip_prefix("Content-Length: ") {
                        length = number.parse().unwrap();
                    }
                }
            }
        }
        let mut body = vec![0; length];
        self.output.read_exact(&mut body).unwrap();
        serde_json::from_slice(&body).unwrap()
    }

    /// The whole answer to a request.
    fn answer(&mut self, id: i64) -> Value {
        loop {
            let message = self.receive();
            if message["id"] == json!(id) && message.get("method").is_none() {
                return message;
            }
            self.notes.push(message);
        }
    }

    fn ask(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        let answer = self.answer(id);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].clone()
    }

    /// The error that a request is answered with.
    fn refusal(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        self.answer(id)["error"].clone()
    }

    fn open(&mut self, uri: &str, text: &str) {
        let document = json!({ "uri": uri, "languageId": "nn", "version": 1, "text": text });
        self.tell("textDocument/didOpen", json!({ "textDocument": document }));
    }

    fn change(&mut self, version: i32, changes: Value) {
        let document = json!({ "uri": URI, "version": version });
        self.tell("textDocument/didChange", json!({ "textDocument": document, "contentChanges": changes }));
    }

    /// The diagnostics of the document once it has this version; of a closed one without a version.
    fn diagnostics(&mut self, version: Option<i32>) -> Vec<Value> {
        let wanted = |note: &Value| {
            note["method"] == "textDocument/publishDiagnostics"
                && note["params"]["version"] == version.map_or(Value::Null, Value::from)
        };
        loop {
            if let Some(at) = self.notes.iter().position(wanted) {
                return self.notes.remove(at)["params"]["diagnostics"].as_array().unwrap().clone();
            }
            let note = self.receive();
            self.notes.push(note);
        }
    }

    /// Ends the server as a client should; the exit code.
    fn end(mut self) -> Option<i32> {
        self.ask("shutdown", Value::Null);
        self.tell("exit", Value::Null);
        self.process.wait().unwrap().code()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        // It has ended if the test went well.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The place of the character `skip` characters behind the start of `what`, in UTF-16.
fn place(text: &str, what: &str, skip: usize) -> Value {
    let at = text.find(what).unwrap() + skip;
    let before = &text[..at];
    let line = before.matches('\n').count();
    let character = before.rsplit('\n').next().unwrap().encode_utf16().count();
    json!({ "line": line, "character": character })
}

fn at(text: &str, what: &str, skip: usize) -> Value {
    json!({ "textDocument": { "uri": URI }, "position": place(text, what, skip) })
}

fn range(text: &str, what: &str) -> Value {
    json!({ "start": place(text, what, 0), "end": place(text, what, what.len()) })
}

fn document() -> Value {
    json!({ "textDocument": { "uri": URI } })
}

/// A text with edits of the server made in it.
fn edited(text: &str, edits: &Value) -> String {
    let offset = |position: &Value| {
        let (line, character) = (position["line"].as_u64().unwrap(), position["character"].as_u64().unwrap());
        let start: usize = text.split_inclusive('\n').take(line as usize).map(str::len).sum();
        let mut units = 0;
        let skipped = text[start..].chars().take_while(|c| {
            units += c.len_utf16() as u64;
            units <= character
        });
        start + skipped.map(char::len_utf8).sum::<usize>()
    };
    let mut edits: Vec<(usize, usize, &str)> = edits
        .as_array()
        .unwrap()
        .iter()
        .map(|e| (offset(&e["range"]["start"]), offset(&e["range"]["end"]), e["newText"].as_str().unwrap()))
        .collect();
    edits.sort_unstable();
    edits
        .iter()
        .rev()
        .fold(text.to_owned(), |text, (start, end, new)| format!("{}{new}{}", &text[..*start], &text[*end..]))
}

#[test]
fn a_session_begins_and_ends() {
    let (mut client, answer) = Client::start(json!({}));
    assert_eq!(answer["serverInfo"]["name"], "nnc");
    assert_eq!(answer["capabilities"]["positionEncoding"], "utf-16");
    assert_eq!(answer["capabilities"]["hoverProvider"], true);
    assert_eq!(client.refusal("workspace/nothing", json!({}))["code"], -32601);
    assert_eq!(client.refusal("textDocument/hover", at(MODEL, "model", 0))["code"], -32602);
    assert_eq!(client.end(), Some(0));
}

#[test]
fn an_end_without_shutdown_is_a_mistake() {
    let (mut client, _) = Client::start(json!({}));
    client.tell("exit", Value::Null);
    assert_eq!(client.process.wait().unwrap().code(), Some(1));
    let (mut client, _) = Client::start(json!({}));
    client.ask("shutdown", Value::Null);
    assert_eq!(client.refusal("textDocument/hover", at(MODEL, "model", 0))["code"], -32600);
}

#[test]
fn mistakes_come_and_go_as_the_text_changes() {
    let mut client = Client::with(MODEL);
    assert_eq!(client.diagnostics(Some(1)), Vec::<Value>::new());
    // A change of a stretch behind characters of several code units.
    let wrong = MODEL.replacen("dense(hidden)", "dens(hidden)", 1);
    client.change(2, json!([{ "range": range(MODEL, "dense(hidden)"), "text": "dens(hidden)" }]));
    let found = client.diagnostics(Some(2));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["range"], range(&wrong, "dens"));
    assert_eq!(found[0]["severity"], 1);
    assert_eq!(found[0]["message"], "unknown name `dens`\nhelp: did you mean `dense`?");
    // The quick fix mends it.
    let asked =
        json!({ "textDocument": { "uri": URI }, "range": range(&wrong, "dens"), "context": { "diagnostics": [] } });
    let actions = client.ask("textDocument/codeAction", asked);
    assert_eq!(actions[0]["title"], "Change `dens` to `dense`");
    assert_eq!(edited(&wrong, &actions[0]["edit"]["changes"][URI]), MODEL);
    // The whole text anew, with a mistake inside of a layer of the user.
    let shapes = MODEL.replacen("by * x", "x @ x", 1);
    client.change(3, json!([{ "text": shapes }]));
    let found = client.diagnostics(Some(3));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["range"]["start"]["line"], 1);
    let related = found[0]["relatedInformation"].as_array().unwrap();
    assert!(related.iter().any(|r| r["message"] == "called here" && r["location"]["uri"] == URI), "{related:?}");
    client.tell("textDocument/didClose", document());
    assert_eq!(client.diagnostics(None), Vec::<Value>::new());
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_mistake_in_a_call_of_the_library_leads_into_it() {
    let mut client = Client::with(&MODEL.replacen("|> relu", "|> dropout(rate=2)", 1));
    let found = client.diagnostics(Some(1));
    let related = found[0]["relatedInformation"].as_array().unwrap();
    let uri = related[0]["location"]["uri"].as_str().unwrap();
    assert!(uri.starts_with("file://") && uri.ends_with("/layers.nn"), "{uri}");
    assert_eq!(client.end(), Some(0));
}

#[test]
fn names_are_explained() {
    let mut client = Client::with(MODEL);
    let hover = client.ask("textDocument/hover", at(MODEL, "inner =", 2));
    assert_eq!(hover["range"], range(MODEL, "inner"));
    assert_eq!(hover["contents"]["kind"], "markdown");
    assert_eq!(hover["contents"]["value"], "```nn\ninner: f32[batch, 8]\n```");
    let text = |client: &mut Client, what, skip| {
        client.ask("textDocument/hover", at(MODEL, what, skip))["contents"]["value"].as_str().unwrap().to_owned()
    };
    let twice = text(&mut client, "|> twice", 4);
    assert_eq!(twice, "```nn\nlayer twice(x, by = 2)\n// gives f32[batch, 2]\n```\n\n---\n\nTwice the input.");
    assert!(text(&mut client, "dense(2)", 1).contains("Fully connected layer"));
    assert!(text(&mut client, "minimize", 1).contains("minimize"));
    assert!(text(&mut client, "ce with", 1).contains("loss ce: f32[]"));
    assert!(text(&mut client, "adam", 1).contains("optimizer adam("));
    assert_eq!(client.ask("textDocument/hover", at(MODEL, "// Gr", 4)), Value::Null);
    assert_eq!(client.end(), Some(0));
}

#[test]
fn definitions_are_found_here_and_in_the_library() {
    let mut client = Client::with(MODEL);
    let found = client.ask("textDocument/definition", at(MODEL, "inner |>", 1));
    assert_eq!(found, json!([{ "uri": URI, "range": range(MODEL, "inner") }]));
    let found = client.ask("textDocument/definition", at(MODEL, "dense(2)", 0));
    let uri = found[0]["uri"].as_str().unwrap();
    let path = PathBuf::from(uri.strip_prefix("file://").unwrap());
    assert!(path.starts_with(client.cache.path()), "{uri}");
    let source = std::fs::read_to_string(&path).unwrap();
    let line = source.lines().nth(found[0]["range"]["start"]["line"].as_u64().unwrap() as usize).unwrap();
    assert!(line.starts_with("layer dense("), "{line}");
    let argument = client.ask("textDocument/definition", at(MODEL, "lr=", 0));
    assert!(argument[0]["uri"].as_str().unwrap().ends_with("/optimizers.nn"));
    assert_eq!(client.ask("textDocument/definition", at(MODEL, "model", 1)), Value::Null);
    // The library's own files have no mistakes to show.
    let uri = uri.to_owned();
    client.open(&uri, &source);
    assert_eq!(client.diagnostics(Some(1)).len(), 0);
    let everywhere = client.ask(
        "textDocument/references",
        json!({ "textDocument": { "uri": URI }, "position": place(MODEL, "ce =", 0), "context": { "includeDeclaration": true } }),
    );
    assert_eq!(everywhere.as_array().unwrap().len(), 2);
    assert_eq!(client.end(), Some(0));
}

#[test]
fn completion_knows_the_place() {
    let text = MODEL.replacen("    logits = inner |> dense(2)\n", "    logits = inner |> dense(2, \n", 1);
    let mut client = Client::with(&text);
    let items = client.ask("textDocument/completion", at(&text, "dense(2, ", 9));
    let labels: Vec<&str> = items.as_array().unwrap().iter().map(|i| i["label"].as_str().unwrap()).collect();
    assert_eq!(labels[..3], ["bias=", "bias_init=", "init="]);
    assert!(labels.contains(&"x") && labels.contains(&"softmax") && labels.contains(&"twice"));
    let softmax = items.as_array().unwrap().iter().find(|i| i["label"] == "softmax").unwrap();
    assert!(softmax["documentation"]["value"].as_str().is_some());
    let help = client.ask("textDocument/signatureHelp", at(&text, "dense(2, ", 9));
    assert!(help["signatures"][0]["label"].as_str().unwrap().starts_with("layer dense("));
    assert_eq!(help["signatures"][0]["activeParameter"], 2);
    // The word before the place is replaced.
    let text = MODEL.replacen("softmax(logits)", "soft", 1);
    client.change(2, json!([{ "text": text }]));
    let items = client.ask("textDocument/completion", at(&text, "soft", 4));
    let softmax = items.as_array().unwrap().iter().find(|i| i["label"] == "softmax").unwrap().clone();
    assert_eq!(edited(&text, &json!([softmax["textEdit"]])), MODEL.replacen("softmax(logits)", "softmax", 1));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_name_is_changed_everywhere() {
    let mut client = Client::with(MODEL);
    let rename = |what: &str, skip, name: &str| {
        let mut params = at(MODEL, what, skip);
        params["newName"] = json!(name);
        params
    };
    let range_of_ce = json!({ "start": place(MODEL, "ce with", 0), "end": place(MODEL, "ce with", 2) });
    let edit = client.ask("textDocument/rename", rename("x: f32", 0, "points"));
    let expected = MODEL.replacen("input  x:", "input  points:", 1).replacen("= x |>", "= points |>", 1);
    assert_eq!(edited(MODEL, &edit["changes"][URI]), expected);
    assert_eq!(client.ask("textDocument/prepareRename", at(MODEL, "ce with", 1)), range_of_ce);
    for (what, name, reason) in [
        ("dense", "thick", "is a name of the library"),
        ("inner", "logits", "is the name of something else"),
        ("inner", "input", "is a keyword"),
        ("inner", "2x", "is not a name"),
        ("model", "modell", "is not defined in this file"),
    ] {
        let error = client.refusal("textDocument/rename", rename(what, 0, name));
        assert!(error["message"].as_str().unwrap().contains(reason), "{what} {name}: {error}");
    }
    assert_eq!(client.end(), Some(0));
}

#[test]
fn bindings_show_their_shapes() {
    let mut client = Client::with(MODEL);
    let whole = json!({ "start": { "line": 0, "character": 0 }, "end": { "line": 99, "character": 0 } });
    let hints = client.ask("textDocument/inlayHint", json!({ "textDocument": { "uri": URI }, "range": whole }));
    let shown: Vec<(Value, &str)> =
        hints.as_array().unwrap().iter().map(|h| (h["position"].clone(), h["label"].as_str().unwrap())).collect();
    let expected = [
        ("x, by", 1, ": f32[batch, 2]"),
        ("inner =", 5, ": f32[batch, 8]"),
        ("logits =", 6, ": f32[batch, 2]"),
        ("probs =", 5, ": f32[batch, 2]"),
        ("ce =", 2, ": f32[]"),
    ];
    assert_eq!(shown, expected.map(|(what, skip, text)| (place(MODEL, what, skip), text)));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn the_outline_is_that_of_the_file() {
    let mut client = Client::with(MODEL);
    let symbols = client.ask("textDocument/documentSymbol", document());
    let names = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|s| s["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&symbols), ["twice", "Blobs", "train"]);
    assert_eq!(names(&symbols[1]["children"]), ["x", "label", "inner", "logits", "probs", "ce"]);
    assert_eq!(symbols[1]["children"][3]["detail"], "f32[batch, 2]");
    let folds = client.ask("textDocument/foldingRange", document());
    let lines: Vec<(u64, u64)> = folds
        .as_array()
        .unwrap()
        .iter()
        .map(|f| (f["startLine"].as_u64().unwrap(), f["endLine"].as_u64().unwrap()))
        .collect();
    assert_eq!(lines, [(3, 9), (12, 13)]);
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_document_is_laid_out() {
    let text = "model M {  // Größe 𝛼\n  input x: f32[batch,2]\n      output y=2*x   // 𝛼\n}\n";
    let mut client = Client::with(text);
    let params = json!({ "textDocument": { "uri": URI }, "options": { "tabSize": 4, "insertSpaces": true } });
    let edits = client.ask("textDocument/formatting", params.clone());
    let tidy = edited(text, &edits);
    assert!(tidy.contains("\n    input x: f32[batch, 2]\n    output y = 2 * x"), "{tidy}");
    client.change(2, json!([{ "text": tidy }]));
    assert_eq!(client.ask("textDocument/formatting", params.clone()), json!([]));
    client.change(3, json!([{ "text": "model M { )" }]));
    assert_eq!(client.refusal("textDocument/formatting", params)["code"], -32803);
    assert_eq!(client.end(), Some(0));
}

#[test]
fn places_are_counted_as_the_client_counts() {
    let (mut client, answer) = Client::start(json!({ "general": { "positionEncodings": ["utf-8", "utf-16"] } }));
    assert_eq!(answer["capabilities"]["positionEncoding"], "utf-8");
    let text = "const a = \"größe 𝛼\"; const b = a + c\n";
    client.open(URI, text);
    let found = client.diagnostics(Some(1));
    assert_eq!(found[0]["range"]["start"]["character"], json!(text.find("c\n").unwrap()));
    let mut client = Client::with(text);
    let found = client.diagnostics(Some(1));
    assert_eq!(
        found[0]["range"],
        range(text, "c\n".trim_end())
            .as_object()
            .map(|_| {
                let start = place(text, "c\n", 0);
                let end = place(text, "c\n", 1);
                json!({ "start": start, "end": end })
            })
            .unwrap()
    );
}

#[test]
fn requests_about_texts_that_are_gone_are_answered() {
    let mut client = Client::with(MODEL);
    let mut ids = Vec::new();
    for version in 2..30 {
        ids.push(client.request("textDocument/hover", at(MODEL, "model", 0)));
        client.change(version, json!([{ "text": format!("{MODEL}// {version}\n") }]));
    }
    let last = client.request("textDocument/hover", at(MODEL, "model", 0));
    client.tell("$/cancelRequest", json!({ "id": last }));
    for id in ids {
        let answer = client.answer(id);
        assert!(answer["result"].is_object() || answer["error"]["code"] == -32801, "{answer}");
    }
    let answer = client.answer(last);
    assert!(answer["result"].is_object() || answer["error"]["code"] == -32800, "{answer}");
    assert_eq!(client.diagnostics(Some(29)), Vec::<Value>::new());
    assert_eq!(client.end(), Some(0));
}

#[test]
fn broken_texts_do_not_end_the_server() {
    let mut client = Client::with("model {{{ \u{0} ((( \"");
    assert!(!client.diagnostics(Some(1)).is_empty());
    client.change(2, json!([{ "text": MODEL }]));
    assert!(client.diagnostics(Some(2)).is_empty());
    // A line that is being written: what was known before still is.
    let text = MODEL.replacen("logits = inner |> dense(2)", "logits = inner |> ", 1).replacen("relu\n", "relu )\n", 1);
    client.change(3, json!([{ "text": text }]));
    assert!(!client.diagnostics(Some(3)).is_empty());
    let hover = client.ask("textDocument/hover", at(&text, "inner =", 1));
    assert_eq!(hover["contents"]["value"], "```nn\ninner: f32[batch, 8]\n```");
    client.tell("textDocument/didChange", json!({ "nonsense": true }));
    assert_eq!(client.refusal("textDocument/hover", json!({ "textDocument": { "uri": URI } }))["code"], -32602);
    assert_eq!(client.end(), Some(0));
}
