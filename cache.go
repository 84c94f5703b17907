package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

type cacheCmd struct {
	Show    cacheShowCmd    `cmd:"" help:"Show what is in calibration caches."`
	Check   cacheCheckCmd   `cmd:"" help:"Check whether a calibration cache fits a model."`
	Diff    cacheDiffCmd    `cmd:"" help:"Compare two calibration caches, tensor by tensor."`
	Convert cacheConvertCmd `cmd:"" help:"Write a calibration cache with another header, or in another form."`
}

// printList prints the first items of a list under its title and number, and
// nothing for none.
func printList(w io.Writer, title string, items []string) error {
	const most = 20
	if len(items) == 0 {
		return nil
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s (%d)\n", title, len(items))
	for _, item := range items[:min(len(items), most)] {
		fmt.Fprintf(&b, "  %s\n", item)
	}
	if more := len(items) - most; more > 0 {
		fmt.Fprintf(&b, "  … and %d more, all with --json\n", more)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// writeJSON writes v as one line. Names keep their < and &.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
