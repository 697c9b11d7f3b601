// Package postgres keeps history in PostgreSQL, as plain tables or as TimescaleDB's hypertables when the extension is present.
//
// Outcomes go in by COPY in binary form, made here byte by byte: the driver's own way to COPY takes a slice of interfaces a row.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

// Store is a PostgreSQL database. Safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	name string
	// copies is false for servers that cannot COPY: then rows go in by INSERT.
	copies bool

	mu     sync.Mutex // guards what follows: Write's working memory
	lookUp sqlrows.LookUp
	buffer []byte

	names sync.Map // of series by id: int32 -> history.Series
}

var _ history.Store = (*Store)(nil)

const (
	connectWithin = 5 * time.Second
	plain         = "plain"
	timescale     = "timescale"
)

// Open makes a store of a URL like postgres://user:password@host:5432/name and sees that the server answers. Parameters of the
// URL are libpq's (sslmode, host for a socket's folder), and weir_copy=off for servers that cannot COPY. The schema is not touched.
func Open(ctx context.Context, text string) (*Store, error) {
	conf, query, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("history.url: %w", err)
	}
	s := &Store{copies: query.Get("weir_copy") != "off"}
	c := conf.ConnConfig
	s.name = fmt.Sprintf("the PostgreSQL database %s on %s", c.Database, c.Host)
	if c.ConnectTimeout <= 0 || c.ConnectTimeout > connectWithin {
		c.ConnectTimeout = connectWithin
	}
	if c.RuntimeParams["application_name"] == "" {
		c.RuntimeParams["application_name"] = "weir"
	}
	// One writes, others read. A connection that is idle for long is closed: an engine in the night holds one.
	if !query.Has("pool_max_conns") {
		conf.MaxConns = 4
	}
	conf.MaxConnIdleTime = 5 * time.Minute
	if !s.copies {
		conf.MaxConns = 1
	}
	if err := s.connect(ctx, conf); err != nil {
		return nil, err
	}
	if pooled, err := s.pooled(ctx); err != nil || !pooled {
		return s, s.wrap("connecting to", err)
	}
	// What a session has prepared another may not know, or know as another query: describe_exec goes wrong without an error.
	s.pool.Close()
	s.name += ", through a pooler"
	if !query.Has("default_query_exec_mode") || c.DefaultQueryExecMode == pgx.QueryExecModeDescribeExec {
		c.DefaultQueryExecMode = pgx.QueryExecModeExec
	}
	return s, s.connect(ctx, conf)
}

// Check tells what the driver takes a URL wrong for, without connecting anywhere. Errors hold no password.
func Check(text string) error {
	_, _, err := parse(text)
	return err
}

// parse reads a URL as the driver does; query is its parameters, with our own.
func parse(text string) (conf *pgxpool.Config, query url.Values, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, nil, errors.New("it is no URL") // the parser's error would show the password
	}
	query = u.Query()
	others := u.Query()
	others.Del("weir_copy")
	u.RawQuery = others.Encode()
	if conf, err = pgxpool.ParseConfig(u.String()); err != nil {
		return nil, nil, Refused(u, err)
	}
	return conf, query, nil
}

// Refused is the driver's error about a URL that it cannot read, with the reason and without the URL, which it would quote.
func Refused(u *url.URL, err error) error {
	text := "it has what PostgreSQL does not know; it must be as postgres://user@host:5432/name?sslmode=require"
	var e *pgconn.ParseConfigError
	if !errors.As(err, &e) {
		return errors.New(text)
	}
	quoted := strings.LastIndex(err.Error(), "`: ")
	if quoted < 0 {
		return errors.New(text)
	}
	why := err.Error()[quoted+len("`: "):]
	password, _ := u.User.Password()
	for _, secret := range []string{password, url.QueryEscape(password), url.PathEscape(password), u.Query().Get("password"), u.Query().Get("sslpassword")} {
		if secret != "" && strings.Contains(why, secret) {
			return errors.New(text)
		}
	}
	return fmt.Errorf("%s: %s", text, why)
}

// connect makes the pool of connections and sees that the server answers.
func (s *Store) connect(ctx context.Context, conf *pgxpool.Config) (err error) {
	if s.pool, err = pgxpool.NewWithConfig(ctx, conf.Copy()); err != nil {
		return s.wrap("opening", err)
	}
	ping, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if err := s.pool.Ping(ping); err != nil {
		s.pool.Close()
		if ping.Err() != nil && ctx.Err() == nil {
			return fmt.Errorf("connecting to %s: it does not answer within %v", s.name, connectWithin)
		}
		return s.wrap("connecting to", err)
	}
	return nil
}

// pooled tells whether there is a pooler between, as PgBouncer: the process that the connection began with is not the one that answers.
func (s *Store) pooled(ctx context.Context) (bool, error) {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Release()
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid); err != nil {
		return false, err
	}
	return pid != conn.Conn().PgConn().PID(), nil
}

// Describe names the database.
func (s *Store) Describe() string { return s.name }

// Close closes the connections. It waits for calls in progress.
func (s *Store) Close() error {
	s.pool.Close()
	return nil
}

func (s *Store) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	const noColumn, noTable, noRight = "42703", "42P01", "42501"
	var e *pgconn.PgError
	if errors.As(err, &e) && (e.Code == noTable || e.Code == noColumn) {
		return history.NotMigrated(s.name, e.Message)
	}
	// The driver tells of each address it tried on a line of its own.
	if text := err.Error(); strings.Contains(text, "\n") {
		err = &oneLine{err, strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\t' }), "; ")}
	}
	err = fmt.Errorf("%s %s: %w", doing, s.name, err)
	if e != nil && e.Code == noRight {
		return &history.RightsError{Err: err}
	}
	return err
}

// oneLine is an error whose text is on one line.
type oneLine struct {
	error
	text string
}

func (e *oneLine) Error() string { return e.text }
func (e *oneLine) Unwrap() error { return e.error }

// refused tells an error about what was sent from one about the server: SQLSTATE classes 22 (data) and 23 (constraints).
func refused(err error) bool {
	var e *pgconn.PgError
	return errors.As(err, &e) && len(e.Code) == 5 && (e.Code[:2] == "22" || e.Code[:2] == "23")
}

// Write stores a batch.
func (s *Store) Write(ctx context.Context, b *history.Batch) (w history.Written, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	w.Bad = b.Clean()
	defer func() {
		if err != nil { // a server that crashed may have lost the names too
			s.lookUp.Forget()
		}
	}()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return history.Written{}, s.wrap("connecting to", err)
	}
	defer func() {
		// A session keeps what it began with, as being read-only; the next try gets a new one.
		if err != nil {
			ended, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			_ = conn.Conn().Close(ended)
			cancel()
		}
		conn.Release()
	}()
	ids, bad, err := s.lookUp.Batch(b, func(table string, columns []string, names ...any) (int32, error) {
		return insertName(ctx, conn.Conn(), table, columns, names)
	}, refused)
	if err != nil {
		return history.Written{}, s.wrap("writing to", err)
	}
	w.Bad += bad
	tx, err := conn.Begin(ctx)
	if err != nil {
		return history.Written{}, s.wrap("writing to", err)
	}
	defer func() {
		ctx, cancel := afterwards(ctx)
		defer cancel()
		_ = tx.Rollback(ctx) // after a commit this does nothing
	}()
	tag, err := tx.Exec(ctx, "INSERT INTO weir_batch (writer, seq) VALUES ($1, $2) ON CONFLICT DO NOTHING", b.Writer, int64(b.Seq))
	if err != nil {
		return history.Written{}, s.wrap("writing to", err)
	}
	if tag.RowsAffected() == 0 {
		return history.Written{Duplicate: true}, nil
	}
	if err = s.rows(ctx, tx, b, &ids); err == nil {
		var bad int
		bad, err = s.events(ctx, tx, b.Events, ids.Engine)
		w.Bad += bad
		w.Rows = b.Rows() - bad
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		if refused(err) {
			err = &history.DataError{Err: err}
		}
		return history.Written{}, s.wrap("writing to", err)
	}
	return w, nil
}

// insertName makes a row of names, or finds the one that is there.
func insertName(ctx context.Context, conn *pgx.Conn, table string, columns []string, names []any) (id int32, err error) {
	var where, values []string
	for i, column := range columns {
		where, values = append(where, fmt.Sprintf("%s = $%d", column, i+1)), append(values, fmt.Sprintf("$%d", i+1))
	}
	find := "SELECT id FROM " + table + " WHERE " + strings.Join(where, " AND ")
	if err = conn.QueryRow(ctx, find, names...).Scan(&id); !errors.Is(err, pgx.ErrNoRows) {
		return id, err
	}
	insert := fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s) ON CONFLICT DO NOTHING", table, strings.Join(columns, ", "), strings.Join(values, ", "))
	if _, err = conn.Exec(ctx, insert, names...); err != nil {
		return 0, err
	}
	err = conn.QueryRow(ctx, find, names...).Scan(&id)
	return id, err
}

// events inserts events one by one; there are few. One that the server refuses is dropped.
func (s *Store) events(ctx context.Context, tx pgx.Tx, events []history.Event, engine int32) (bad int, err error) {
	for i := range events {
		e := &events[i]
		err := pgx.BeginFunc(ctx, tx, func(tx pgx.Tx) error { // a savepoint
			_, err := tx.Exec(ctx, "INSERT INTO weir_event (at, engine, kind, pool, subject, from_state, to_state, detail) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
				time.UnixMilli(e.AtMS), engine, string(e.Kind), e.Pool, e.Subject, e.From, e.To, e.Detail)
			return err
		})
		if refused(err) {
			bad++
		} else if err != nil {
			return bad, err
		}
	}
	return bad, nil
}

// afterwards is a context for what must still be said when ctx is over: to a server that froze, not for good.
func afterwards(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
}
