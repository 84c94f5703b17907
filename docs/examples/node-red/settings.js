// What the flow needs of settings.js: a context that survives a restart. Without
// it, duplicates across restarts aren't known as such.
module.exports = {
    contextStorage: {
        default: { module: "localfilesystem", config: { flushInterval: 1 } } // seconds
    },
    // No editor and no server: the flow alone. Leave these two out to get them back.
    httpAdminRoot: false,
    httpNodeRoot: false
}
