//go:build !cgo

package ort

import "github.com/weirlb/weir/engine/model"

// Library cannot be had without cgo.
type Library struct{}

// Session cannot be had without cgo.
type Session struct{}

// Load says that the program was built without cgo.
func Load(string) (*Library, error) { return nil, ErrNoCgo }

// These keep callers compiling; Load never gives a Library to call them on.
func (l *Library) Close() error                              { return ErrNoCgo }
func (l *Library) Version() string                           { return "" }
func (l *Library) Path() string                              { return "" }
func (l *Library) Open([]byte, model.Meta) (*Session, error) { return nil, ErrNoCgo }
func (s *Session) ID() string                                { return "" }
func (s *Session) Meta() model.Meta                          { return model.Meta{} }
func (s *Session) Predict([]float32, int, []float32) error   { return ErrNoCgo }
func (s *Session) Close() error                              { return ErrNoCgo }
