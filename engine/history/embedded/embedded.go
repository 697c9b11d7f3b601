// Package embedded keeps history in one file beside the engine, with SQLite: no server, and nothing an operator must set up.
//
// Outcomes are stored a batch a row, rollups a minute and pool a row. So an SQL statement runs twice a second and not ten thousand
// times, and the driver's speed hardly matters: modernc.org/sqlite, which is SQLite translated to Go and needs no C compiler,
// does what mattn/go-sqlite3 does (ARCHITECTURE.md has both, measured). SQLite is here for what is hard to do well by hand:
// a batch with its number is stored whole or not at all, a killed engine's file is whole, and other programs read it meanwhile.
package embedded

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"modernc.org/sqlite" // registers the driver "sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
	"github.com/weirlb/weir/schema"
)

// Store is a history file. Safe for concurrent use.
type Store struct {
	path  string
	ours  fs.FileInfo // of the file when it was opened
	write *sql.DB     // one connection
	read  *sql.DB

	mu     sync.Mutex // guards what follows: Write's working memory
	codec  *history.Codec
	ids    map[history.Series]int64
	meters sqlrows.Names[history.MetricSeries]
	buffer []byte

	names    sync.Map // of series by id: int64 -> history.Series
	measured sync.Map // of metrics by id: uint64 -> history.MetricSeries
}

var _ history.Store = (*Store)(nil)

// pragmas of every connection.
const pragmas = "_pragma=busy_timeout(5000)&_pragma=synchronous(NORMAL)&_pragma=journal_size_limit(67108864)"

func dsn(path, more string) string {
	return "file:" + (&url.URL{Path: path}).EscapedPath() + "?" + pragmas + more
}

// Open opens a file, made if need be, with its folder. The schema is not touched: see Migrate.
func Open(path string) (*Store, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, fmt.Errorf("folder of the history file: %w", err)
	}
	hand(path)
	// WAL: readers and the writer do not wait for each other. synchronous=NORMAL: nothing is lost when the engine is killed;
	// a power cut may take the last commits and leaves the file whole.
	s := &Store{path: path, codec: history.NewCodec(), ids: map[history.Series]int64{}}
	var err error
	if s.write, err = sql.Open("sqlite", dsn(path, "&_pragma=auto_vacuum(INCREMENTAL)&_pragma=journal_mode(WAL)&_txlock=immediate")); err != nil {
		return nil, fmt.Errorf("opening the history file %s: %w", path, err)
	}
	s.write.SetMaxOpenConns(1)
	if err = s.reader(""); err != nil {
		_ = s.write.Close()
		return nil, err
	}
	if err := s.ping(); err != nil {
		_ = s.Close()
		if says(err, sqlite3.SQLITE_READONLY) { // its own words say of no user
			return nil, fmt.Errorf("opening the history file %s: user %d may not write to it: %w", path, os.Geteuid(), err)
		}
		return nil, fmt.Errorf("opening the history file %s: %w", path, err)
	}
	if s.ours, err = os.Stat(path); err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("opening the history file: %w", err)
	}
	return s, nil
}

// OpenToRead opens a file that is there for who may not write to it, nor to its folder, as well. What writes fails then.
func OpenToRead(path string) (*Store, error) {
	s, err := Open(path)
	if !says(err, sqlite3.SQLITE_READONLY) && !says(err, sqlite3.SQLITE_CANTOPEN) {
		return s, err
	}
	ways := []string{"&mode=ro"} // by what another program that has it open, or was killed, keeps beside it
	if info, err := os.Stat(path + "-wal"); err != nil || info.Size() == 0 {
		ways = append(ways, "&immutable=1") // nobody has it open, so there is nobody to agree with on locks, which would be a file beside it
	}
	for _, way := range ways {
		s = &Store{path: path, codec: history.NewCodec(), ids: map[history.Series]int64{}}
		if s.reader(way) != nil {
			continue
		}
		s.write = s.read
		var n int
		if s.read.QueryRow("SELECT count(*) FROM sqlite_schema").Scan(&n) == nil {
			return s, nil
		}
		_ = s.read.Close()
	}
	f, reading := os.Open(path)
	if reading != nil { // SQLite says only that it is unable to
		return nil, fmt.Errorf("opening the history file: %w", reading)
	}
	_ = f.Close()
	return nil, err
}

// reader makes the connections for reading.
func (s *Store) reader(more string) (err error) {
	if s.read, err = sql.Open("sqlite", dsn(s.path, "&_pragma=query_only(true)"+more)); err != nil {
		return fmt.Errorf("opening the history file %s: %w", s.path, err)
	}
	s.read.SetMaxOpenConns(4)
	s.read.SetConnMaxIdleTime(time.Minute)
	return nil
}

// says tells whether an error is this one of SQLite's.
func says(err error, code int) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == code
}

// hand makes a file that is not there when root asks, as by `weir migrate up`, and gives it to whom its folder belongs: an engine that runs as
// a user of its own could not write to it otherwise. Whatever fails here shows when the file is opened.
func hand(path string) {
	folder, err := os.Stat(filepath.Dir(path))
	if err != nil || os.Geteuid() != 0 {
		return
	}
	owner, ok := folder.Sys().(*syscall.Stat_t)
	if !ok {
		return
	}
	if file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644); err == nil {
		_ = file.Chown(int(owner.Uid), int(owner.Gid))
		_ = file.Close()
	}
}

// ping opens the file. Of two programs that open a new file at once one may be told that it is busy, whatever its patience: the
// switch to WAL does not wait.
func (s *Store) ping() (err error) {
	for range 50 {
		err = s.write.Ping()
		if !says(err, sqlite3.SQLITE_BUSY) {
			return err
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// Describe names the file.
func (s *Store) Describe() string { return "the file " + s.path }

// Close closes the file.
func (s *Store) Close() error { return errors.Join(s.read.Close(), s.write.Close()) }

// wrap says what was being done.
func (s *Store) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	// SQLite has no code of its own for these.
	for _, what := range []string{"no such table: ", "no such column: "} {
		if _, name, missing := strings.Cut(err.Error(), what); missing {
			name, _, _ = strings.Cut(name, " (")
			return history.NotMigrated(s.Describe(), what+name)
		}
	}
	return fmt.Errorf("%s the history file %s: %w", doing, s.path, err)
}

// tx runs a transaction of the one writing connection.
func (s *Store) tx(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback()
		return err
	}
	return tx.Commit()
}

// Migrate brings the tables up to date.
func (s *Store) Migrate(ctx context.Context) error {
	steps, err := schema.Steps("sqlite", "")
	if err != nil {
		return err
	}
	return s.wrap("migrating", s.tx(ctx, func(tx *sql.Tx) error {
		have, err := version(ctx, tx)
		if err != nil {
			return err
		}
		missing, err := sqlrows.Missing(steps, have)
		if err != nil {
			return err
		}
		for _, step := range missing {
			for _, statement := range step.Statements() {
				if _, err := tx.ExecContext(ctx, statement); err != nil {
					return fmt.Errorf("step %d, %s: %w", step.Version, step.Name, err)
				}
			}
		}
		// The pragma takes no parameter.
		_, err = tx.ExecContext(ctx, fmt.Sprintf("PRAGMA user_version = %d", len(steps)))
		return err
	}))
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func version(ctx context.Context, q queryer) (v int, err error) {
	err = q.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v)
	return v, err
}

// Migrations tells the state of the schema.
func (s *Store) Migrations(ctx context.Context) ([]history.Migration, error) {
	steps, err := schema.Steps("sqlite", "")
	if err != nil {
		return nil, err
	}
	have, err := version(ctx, s.read)
	if err != nil {
		return nil, s.wrap("reading", err)
	}
	return sqlrows.State(steps, have, ""), nil
}

// Unmade tells the state of the schema of a file that is not there.
func Unmade() ([]history.Migration, error) {
	steps, err := schema.Steps("sqlite", "")
	return sqlrows.State(steps, 0, ""), err
}

// gone tells that the file was removed or replaced. SQLite goes on with the one it has open, which nobody finds again, and has no error for that.
func (s *Store) gone() bool {
	now, err := os.Stat(s.path)
	return errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(now, s.ours)
}

// Write stores a batch.
func (s *Store) Write(ctx context.Context, b *history.Batch) (w history.Written, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Bad = b.Clean()
	err = s.tx(ctx, func(tx *sql.Tx) error {
		res, err := tx.ExecContext(ctx, "INSERT OR IGNORE INTO batch (writer, seq, at_ms) VALUES (?, ?, ?)", b.Writer, int64(b.Seq), b.AtMS)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n == 0 {
			w = history.Written{Duplicate: true}
			return err
		}
		if err := s.outcomes(ctx, tx, b); err != nil {
			return err
		}
		if err := s.rollups(ctx, tx, b); err != nil {
			return err
		}
		if err := s.metrics(ctx, tx, b); err != nil {
			return err
		}
		for i := range b.Events {
			e := &b.Events[i]
			if _, err := tx.ExecContext(ctx, "INSERT INTO events (at_ms, instance, zone, kind, pool, subject, from_state, to_state, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
				e.AtMS, b.Instance, b.Zone, string(e.Kind), e.Pool, e.Subject, e.From, e.To, e.Detail); err != nil {
				return err
			}
		}
		w.Rows = b.Rows()
		return nil
	})
	if s.gone() { // after the batch: it would be lost with the file otherwise
		return history.Written{}, s.wrap("writing", history.ErrGone)
	}
	if err != nil {
		clear(s.ids) // some may be of the transaction that is undone
		s.meters.Forget()
		return history.Written{}, s.wrap("writing", refused(err))
	}
	return w, nil
}

// refused tells a batch that is at fault from a file that is.
func refused(err error) error {
	var e *sqlite.Error
	if errors.As(err, &e) {
		switch e.Code() & 0xff {
		case sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG:
			return &history.DataError{Err: err}
		}
	}
	return err
}

func (s *Store) outcomes(ctx context.Context, tx *sql.Tx, b *history.Batch) error {
	if len(b.Outcomes) == 0 {
		return nil
	}
	from, to := b.Outcomes[0].AtMS, b.Outcomes[0].AtMS
	for i := range b.Outcomes {
		from, to = min(from, b.Outcomes[i].AtMS), max(to, b.Outcomes[i].AtMS)
	}
	s.buffer = s.codec.AppendBlock(s.buffer[:0], b.Series, b.Outcomes)
	_, err := tx.ExecContext(ctx, "INSERT INTO outcomes (instance, zone, from_ms, to_ms, rows, data) VALUES (?, ?, ?, ?, ?, ?)",
		b.Instance, b.Zone, from, to, len(b.Outcomes), s.buffer)
	return err
}

// rollups stores those of each pool and minute together.
func (s *Store) rollups(ctx context.Context, tx *sql.Tx, b *history.Batch) error {
	type key struct {
		pool   string
		minute int64
	}
	type part struct{ peers, classes []byte }
	parts := map[key]*part{}
	for i := range b.Rollups {
		r := b.Rollups[i]
		series := b.Series[r.Series]
		id, err := s.id(ctx, tx, series)
		if err != nil {
			return err
		}
		k := key{series.Pool, r.MinuteMS}
		p := parts[k]
		if p == nil {
			p = &part{peers: []byte{}, classes: []byte{}}
			parts[k] = p
		}
		r.Series = uint32(id)
		if series.Class == "" {
			p.peers = r.Append(p.peers)
		} else {
			p.classes = r.Append(p.classes)
		}
	}
	for k, p := range parts {
		if _, err := tx.ExecContext(ctx, "INSERT INTO rollups (pool, minute_ms, peers, classes) VALUES (?, ?, ?, ?)", k.pool, k.minute, p.peers, p.classes); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) id(ctx context.Context, tx *sql.Tx, series history.Series) (id int64, err error) {
	if id, ok := s.ids[series]; ok {
		return id, nil
	}
	// DO UPDATE to the same: with DO NOTHING nothing would be returned.
	err = tx.QueryRowContext(ctx, "INSERT INTO series (pool, peer, class) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET pool = pool RETURNING id",
		series.Pool, series.Peer, series.Class).Scan(&id)
	if err == nil {
		if len(s.ids) > history.MaxSeries {
			clear(s.ids)
		}
		s.ids[series] = id
	}
	return id, err
}

// maintainWithin bounds one round of deleting: the rest is for the next.
const maintainWithin = 2 * time.Second
