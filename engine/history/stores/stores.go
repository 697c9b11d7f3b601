// Package stores finds the store that a URL stands for.
package stores

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/embedded"
	"github.com/weirlb/weir/engine/history/mysql"
	"github.com/weirlb/weir/engine/history/postgres"
)

// File is the name of the embedded history in history.dir.
const File = "history.db"

// FilePath is the file of an embedded store, or empty when the history is somewhere else.
func FilePath(c config.History) string {
	if c.URL == "" {
		return filepath.Join(c.Dir, File)
	}
	if u, err := url.Parse(c.URL.Reveal()); err == nil && u.Scheme == "file" {
		return u.Path
	}
	return ""
}

// Check tells what is wrong with a URL by the word of what would open it, and what the server would refuse, without connecting anywhere. Errors hold no password.
func Check(at config.StoreURL) error {
	u, err := url.Parse(at.Reveal())
	if err != nil {
		return errors.New("it is no URL") // the parser's error would show the password
	}
	switch u.Scheme {
	case "postgres":
		if err := postgres.Check(at.Reveal()); err != nil {
			return err
		}
		return postgresParameters(u)
	case "mysql":
		return mysql.Check(u)
	}
	return nil
}

// OpenToRead opens the store of a configuration for who only reads, and may have the right to no more. What writes may fail.
func OpenToRead(ctx context.Context, c config.History) (history.Store, error) {
	if path := FilePath(c); path != "" && c.URL != config.HistoryOff {
		return embedded.OpenToRead(path)
	}
	return Open(ctx, c)
}

// Open opens the store of a configuration.
func Open(ctx context.Context, c config.History) (history.Store, error) {
	if c.URL == config.HistoryOff {
		return nil, history.ErrOff
	}
	if path := FilePath(c); path != "" {
		return embedded.Open(path)
	}
	text := c.URL.Reveal()
	u, err := url.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("history.url is no URL") // the parser's error would show the password
	}
	switch u.Scheme {
	case "postgres":
		return postgres.Open(ctx, text)
	case "mysql":
		return mysql.Open(ctx, text)
	}
	return nil, fmt.Errorf("history.url: there is no store for %s://", u.Scheme)
}
