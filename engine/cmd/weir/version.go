package main

import (
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/weirlb/weir/engine/serve"
)

// Set by the linker: go build -ldflags "-X main.version=1.2.3 -X main.revision=abc123".
var version, revision string

type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Protocol int    `json:"protocol"`
}

// thisBuild says what was built, from the linker's words or else from what the Go tool noted.
func thisBuild() build {
	b := build{Version: version, Revision: revision, Protocol: serve.Protocol}
	info, ok := debug.ReadBuildInfo()
	if ok && b.Revision == "" {
		dirty := ""
		for _, s := range info.Settings {
			switch {
			case s.Key == "vcs.revision":
				b.Revision = s.Value
			case s.Key == "vcs.modified" && s.Value == "true":
				dirty = "+changes"
			}
		}
		if b.Revision != "" {
			b.Revision += dirty
		}
	}
	if b.Version == "" {
		b.Version = "development"
		if ok && info.Main.Version != "" && info.Main.Version != "(devel)" {
			b.Version = info.Main.Version
		}
	}
	if b.Revision == "" {
		b.Revision = "unknown"
	}
	return b
}

type versionCmd struct {
	JSON bool `name:"json" help:"Print JSON."`
}

func (c *versionCmd) Run(to streams) error {
	b := thisBuild()
	if c.JSON {
		return json.NewEncoder(to.out).Encode(b)
	}
	_, err := fmt.Fprintf(to.out, "weir %s (revision %s, protocol %d)\n", b.Version, b.Revision, b.Protocol)
	return err
}
