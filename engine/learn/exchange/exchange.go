// Package exchange is where several engines tell one another of models: a table in a database that all of them reach, or a folder. It
// holds files of models with what is said about them, never traffic.
//
// PostgreSQL wakes those that wait (LISTEN, NOTIFY); MySQL, MariaDB and folders are asked each second. One of the engines may lead, by a
// lock that the database holds for its connection, or the file system for its process: when that ends, however it ends, another can.
package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/weirlb/weir/engine/history"
	my "github.com/weirlb/weir/engine/history/mysql"
	pg "github.com/weirlb/weir/engine/history/postgres"
)

// Kind is what a publication says.
type Kind string

// The kinds. Promoted: an engine made the model serve. Withdrawn: it left it, since it was worse. Trained: an engine trained it on its
// own traffic from model Base, with Samples decisions; for averaging.
const (
	Promoted  Kind = "promoted"
	Withdrawn Kind = "withdrawn"
	Trained   Kind = "trained"
)

// Publication is one row, or one file. The file of one that is withdrawn is empty.
type Publication struct {
	Seq            int64 // given by the exchange, rising in the order in which publications become visible
	Kind           Kind
	Model          string // id
	Base           string // id of the model it was trained from
	Instance, Zone string // of the engine that says so
	Engine         string // a name that no other running engine has
	Why            string
	Samples        int64
	AtMS           int64 // Unix time
	File           []byte
}

// Bounds of a table and of one row.
const (
	kept        = 64      // publications of a kind; older ones go
	keptTrained = 512     // the same for Trained, since each engine has one a round
	maxFile     = 8 << 20 // bytes
	maxText     = 500
)

func keeps(k Kind) int {
	if k == Trained {
		return keptTrained
	}
	return kept
}

// Exchange is a connection to the table, or a use of the folder. Not safe for concurrent use. After an error it is to be closed and opened anew.
type Exchange interface {
	Publish(ctx context.Context, p Publication) error
	// After returns what was published after seq, in order; without trained those of the other kinds only.
	After(ctx context.Context, seq int64, trained bool) ([]Publication, error)
	// Wait returns when something was published or the time is over. An end of ctx is no error.
	Wait(ctx context.Context, most time.Duration) error
	// Lead tries to be the one that leads, and tells whether it is. Once it is, it stays so until Resign, Close or an error.
	Lead(ctx context.Context) (bool, error)
	// Resign lets another lead. It does nothing where this one does not.
	Resign(ctx context.Context) error
	Describe() string
	Close()
}

const (
	within    = 5 * time.Second // one statement may take
	pollEvery = time.Second     // how often a waiting engine looks where nobody wakes it
)

// pause returns when the time is over, or ctx.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// migrateWithin is what migrations may take, those of other engines that are waited for included.
const migrateWithin = time.Minute

// Open opens a folder by file:/path, which is made if need be, or connects to postgres://... or mysql://... and brings its tables up to
// date (schema/), under the lock that all engines take.
func Open(ctx context.Context, text string) (Exchange, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("it is no URL") // the parser's error would show the password
	}
	var x Exchange
	var tables func(context.Context) (history.Store, error)
	switch u.Scheme {
	case "file":
		return openFolder(u)
	case "postgres":
		tables = func(ctx context.Context) (history.Store, error) { return pg.Open(ctx, text) }
		x, err = openPostgres(ctx, u)
	case "mysql":
		tables = func(ctx context.Context) (history.Store, error) { return my.Open(ctx, text) }
		x, err = openMySQL(ctx, u)
	default:
		return nil, fmt.Errorf("there are no shared models in %s://; it must be a database server, postgres:// or mysql://, or a folder, file:/path", u.Scheme)
	}
	if err != nil {
		return nil, err
	}
	if err := migrated(ctx, tables); err != nil {
		x.Close()
		return nil, err
	}
	return x, nil
}

// migrated applies the migrations that are not yet. The table is one of the history's schema, wherever it is.
func migrated(ctx context.Context, open func(context.Context) (history.Store, error)) error {
	ctx, cancel := context.WithTimeout(ctx, migrateWithin)
	defer cancel()
	s, err := open(ctx)
	if err != nil {
		return err
	}
	return errors.Join(s.Migrate(ctx), s.Close())
}

// clean makes a publication fit to be kept.
func (p *Publication) clean() error {
	if len(p.File) > maxFile {
		return fmt.Errorf("the model has %d bytes, at most %d are shared", len(p.File), maxFile)
	}
	for _, s := range []*string{&p.Model, &p.Base, &p.Instance, &p.Zone, &p.Engine, &p.Why} {
		if len(*s) > maxText {
			*s = (*s)[:maxText]
		}
	}
	return nil
}
