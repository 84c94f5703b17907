package camera

// FindWorker is where the worker's program is; path "" looks for it beside the
// executable, as New does.
func FindWorker(path string) (string, error) { return find(path) }
