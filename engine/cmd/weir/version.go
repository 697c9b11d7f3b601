package main

import (
	"encoding/json"
	"fmt"
	"runtime/debug"

	"github.com/weirlb/weir/engine/model/ort"
	"github.com/weirlb/weir/engine/serve"
)

// Set by the linker: go build -ldflags "-X main.version=1.2.3 -X main.revision=abc123".
var version, revision string

type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Protocol int    `json:"protocol"`
}

// runtimeLibrary is the ONNX Runtime that an engine started here without other word would load.
type runtimeLibrary struct {
	Version string `json:"version,omitempty"`
	Path    string `json:"path,omitempty"`
	Error   string `json:"error,omitempty"`
}

func findRuntimeLibrary() runtimeLibrary {
	path, err := ort.Find("")
	if err != nil {
		return runtimeLibrary{Error: err.Error()}
	}
	lib, err := ort.Load(path)
	if err != nil {
		return runtimeLibrary{Path: path, Error: err.Error()}
	}
	defer lib.Close()
	return runtimeLibrary{Version: lib.Version(), Path: path}
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
	b, lib := thisBuild(), findRuntimeLibrary()
	if c.JSON {
		return json.NewEncoder(to.out).Encode(struct {
			build
			ONNXRuntime runtimeLibrary `json:"onnxruntime"`
		}{b, lib})
	}
	about := fmt.Sprintf("ONNX Runtime %s (%s)", lib.Version, lib.Path)
	if lib.Error != "" {
		about = lib.Error
	}
	_, err := fmt.Fprintf(to.out, "weir %s (revision %s, protocol %d)\n%s\n", b.Version, b.Revision, b.Protocol, about)
	return err
}
