package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// strict decodes one JSON object; unknown keys, one that is there twice and anything after it are errors. Errors say what is wanted in terms of JSON.
func strict(body []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	var kind *json.UnmarshalTypeError
	switch err := d.Decode(into); {
	case errors.Is(err, io.EOF):
		return errors.New("it is empty")
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it ends too early")
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("it must be an object, not %s", article(kind.Value))
	case errors.As(err, &kind) && jsonKind(kind.Type) == "a number" && strings.HasPrefix(kind.Value, "number "):
		return fmt.Errorf("%s: there is no room for the %s", kind.Field, kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("%s must be %s, not %s", kind.Field, jsonKind(kind.Type), article(kind.Value))
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the object")
	}
	return twice(body)
}

// jsonKind is what a value of a Go type is in JSON.
func jsonKind(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "a string"
	}
	return "a number"
}

// article names what the decoder found: "array", "bool", "number 5", "object", "string".
func article(found string) string {
	switch kind, _, _ := strings.Cut(found, " "); kind {
	case "array":
		return "a list"
	case "object":
		return "an object"
	case "bool":
		return "true or false"
	default:
		return "a " + found
	}
}

// twice finds a key that an object of plain values has twice; of those the decoder takes the last. It takes keys in any letter case.
func twice(body []byte) error {
	d := json.NewDecoder(bytes.NewReader(body))
	if open, err := d.Token(); err != nil || open != json.Delim('{') {
		return nil // null, which says nothing
	}
	seen := map[string]bool{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return err
		}
		name, _ := key.(string)
		if seen[strings.ToLower(name)] {
			return fmt.Errorf("%q is there twice", name)
		}
		seen[strings.ToLower(name)] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return err
		}
	}
	return nil
}
