//go:build cgo

package ort

import (
	"errors"
	"fmt"
	"sync"

	onnx "github.com/yalue/onnxruntime_go"
)

// process mirrors the one environment that the binding has: the loaded library is a variable of that package, so counting its
// users has to be one of this package too, the only mutable one.
//
// mu guards path and users, and every call that loads or unloads.
var process struct {
	mu    sync.Mutex
	path  string
	users int
}

// Library is a use of the loaded ONNX Runtime. The first Load in a process loads it, the last Close unloads it; open
// sessions count as uses. Safe for concurrent use.
type Library struct {
	path, version string
	close         sync.Once
}

// Load loads the library, or adds a use to it when it is loaded. While it is in use, no other path can be loaded.
func Load(path string) (*Library, error) {
	process.mu.Lock()
	defer process.mu.Unlock()
	switch {
	case process.users == 0:
		if err := start(path); err != nil {
			return nil, fmt.Errorf("loading ONNX Runtime: %w", err)
		}
		process.path = path
	case process.path != path:
		return nil, fmt.Errorf("loading ONNX Runtime: %s is in use; a process has one, so %s needs a restart", process.path, path)
	}
	process.users++
	return &Library{path: path, version: onnx.GetVersion()}, nil
}

// start is called with process.mu held.
func start(path string) error {
	if onnx.IsInitialized() {
		return errors.New("it is in use by another part of this program")
	}
	if err := Check(path); err != nil {
		return err
	}
	onnx.SetSharedLibraryPath(path)
	if err := onnx.InitializeEnvironment(onnx.WithLogLevelError()); err != nil {
		return fmt.Errorf("%s (ONNX Runtime %s or newer is needed): %w", path, Oldest, err)
	}
	return nil
}

func release() error {
	process.mu.Lock()
	defer process.mu.Unlock()
	if process.users--; process.users > 0 {
		return nil
	}
	process.path = ""
	if err := onnx.DestroyEnvironment(); err != nil {
		return fmt.Errorf("unloading ONNX Runtime: %w", err)
	}
	return nil
}

// Close ends this use. Sessions opened by it go on. A second call does nothing.
func (l *Library) Close() (err error) {
	l.close.Do(func() { err = release() })
	return err
}

// Version is the library's own, as "1.27.0".
func (l *Library) Version() string { return l.version }

// Path is where the library was loaded from.
func (l *Library) Path() string { return l.path }
