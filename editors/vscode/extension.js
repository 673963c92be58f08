// Starts `nnc lsp` and hands it the .nn files that are open.

const { workspace } = require("vscode");
const { LanguageClient } = require("vscode-languageclient/node");

let client;

exports.activate = function () {
    const command = workspace.getConfiguration("nnc").get("path");
    const server = { command, args: ["lsp"] };
    client = new LanguageClient("nnc", "nnc", server, { documentSelector: [{ language: "nn" }] });
    return client.start();
};

exports.deactivate = function () {
    return client?.stop();
};
