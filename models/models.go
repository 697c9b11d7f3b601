// Package models holds the model that is built into the program: models/default.onnx, its card beside it.
package models

import (
	"embed"
	"errors"
)

// files is this folder: a pattern that named the model itself would not compile without it.
//
//go:embed *.*
var files embed.FS

// Default returns the bytes of the model built in, as model.Encode wrote them.
func Default() ([]byte, error) {
	file, err := files.ReadFile("default.onnx")
	if err != nil {
		return nil, errors.New("no model is built into this program: models/default.onnx was missing when it was built; name a file in model.file")
	}
	return file, nil
}
