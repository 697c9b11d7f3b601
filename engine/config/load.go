package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/weirlb/weir/engine/yamlread"
)

// maxFileSize bounds the file: 1024 pools of a hundred peers are a tenth of it.
const maxFileSize = 8 << 20

// Load reads and checks a configuration file. env finds environment variables; nil means the process's own, and then
// variables beginning with WEIR_ that nothing reads are warned of too (see UnknownVariables).
//
// On failure the error is an *Error with every problem found, or, when the file cannot be read, one that wraps the
// cause. The warnings are given in either case. Relative state_file, token_file, history.dir, model.file, model.library and peers_file,
// and the certificates of checks, are taken from the file's folder.
func Load(path string, env func(string) (string, bool)) (*Config, []Warning, error) {
	data, err := readBounded(path, maxFileSize)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the configuration: %w", err)
	}
	d, c, err := parse(path, data, env)
	warnings := tidy(d.warnings)
	if err != nil {
		return nil, warnings, err
	}
	dir := filepath.Dir(path)
	c.StateFile = within(dir, c.StateFile)
	c.History.Dir = within(dir, c.History.Dir)
	if c.Model.File != ModelDefault && c.Model.File != ModelNone {
		c.Model.File = within(dir, c.Model.File)
	}
	if c.Model.Library != LibraryBuiltin {
		c.Model.Library = within(dir, c.Model.Library)
	}
	for i := range c.Pools {
		c.Pools[i].PeersFile = within(dir, c.Pools[i].PeersFile)
	}
	if err := d.certificates(c, dir); err != nil {
		return nil, warnings, err
	}
	if c.Admin.TokenFile != "" {
		c.Admin.TokenFile = within(dir, c.Admin.TokenFile)
		token, err := readToken(c.Admin.TokenFile)
		if err != nil {
			return nil, warnings, &Error{Findings: []Finding{d.where("admin", "admin.token_file").finding("%v", err)}}
		}
		c.Admin.Token = token
	}
	return c, warnings, nil
}

// Parse reads and checks a configuration. name stands in the findings; env as for Load. It opens no file: with
// admin.token_file set, Admin.Token stays empty.
func Parse(name string, data []byte, env func(string) (string, bool)) (*Config, []Warning, error) {
	d, c, err := parse(name, data, env)
	return c, tidy(d.warnings), err
}

func parse(name string, data []byte, env Lookup) (*decoder, *Config, error) {
	d := &decoder{file: name, origin: map[*yaml.Node]string{}, places: map[string]place{}}
	if env == nil {
		env = os.LookupEnv
		d.warnings = UnknownVariables(os.Environ())
	}
	root, ok := d.document(data)
	if !ok {
		return d, nil, &Error{Findings: tidy(d.errs)}
	}
	d.overlay(root, env)
	c := Default()
	d.base = c.Defaults
	d.object(root, reflect.ValueOf(&c).Elem(), "")
	d.validate(&c)
	if c.Instance == "" {
		c.Instance, _ = os.Hostname()
	}
	if len(c.Pools) == 0 && len(d.errs) == 0 {
		d.warnf(d.where("pools"), "there are no pools: nothing is balanced")
	}
	if len(d.errs) > 0 {
		return d, nil, &Error{Findings: tidy(d.errs)}
	}
	return d, &c, nil
}

// document parses the text into the mapping at its root; an empty text is an empty mapping.
func (d *decoder) document(data []byte) (*yaml.Node, bool) {
	dec := yamlread.New(data)
	var doc yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, true
	case err != nil:
		d.syntax(err, dec)
		return nil, false
	}
	if err := dec.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		d.errorf(place{file: d.file}, "holds more than one document (a line with ---): keep one")
		return nil, false
	}
	root := resolve(doc.Content[0])
	if isNull(root) {
		return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}, true
	}
	if root.Kind != yaml.MappingNode {
		d.errorf(place{file: d.file, line: root.Line}, "must be a mapping of keys (%s), is %s",
			strings.Join(names(reflect.TypeFor[Config]()), ", "), describe(root))
		return nil, false
	}
	return root, true
}

// pipeWithin is how long a pipe may take to say what it has to. A reload that waited for one for ever would be the last, and would not
// let the engine end either.
const pipeWithin = 5 * time.Second

// readBounded reads a file, or a pipe that somebody writes to (`weir check --config /dev/stdin`).
func readBounded(path string, most int64) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe without a writer is empty; else opening it would wait
	if err != nil {
		return nil, err
	}
	defer f.Close()
	_ = f.SetReadDeadline(time.Now().Add(pipeWithin)) // regular files have none and need none
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("has more than %d bytes", most)}
	}
	if info, err := f.Stat(); len(data) == 0 && err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("is a pipe that nothing was written to; name a file")}
	}
	return data, nil
}

func within(dir, path string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// readToken reads a token from its own file, as secrets are mounted. Errors name the file, never its content.
func readToken(path string) (Secret, error) {
	data, err := readBounded(path, 4096)
	if err != nil {
		return "", fmt.Errorf("reading the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return "", fmt.Errorf("%s is empty: it must hold the token", path)
	}
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", fmt.Errorf("%s must hold one word of printable ASCII", path)
	}
	return Secret(token), nil
}
