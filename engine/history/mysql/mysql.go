// Package mysql keeps history in MySQL or MariaDB. Outcomes go in by LOAD DATA LOCAL where the server takes that, other rows by INSERTs of
// hundreds, whose text is made here.
package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
	"github.com/weirlb/weir/schema"
)

// Store is a MySQL or MariaDB database. Safe for concurrent use.
type Store struct {
	db     *sql.DB // for questions and the schema
	writes *sql.DB // for batches
	name   string

	mu     sync.Mutex // guards what follows: Write's working memory
	lookUp sqlrows.LookUp
	buffer []byte
	load   loader
	loads  string // what the driver knows load by
	noLoad bool   // the server takes no LOAD DATA LOCAL

	names sync.Map // of series by id: int32 -> history.Series
}

var _ history.Store = (*Store)(nil)

const (
	connectWithin = 5 * time.Second
	answerWithin  = 8 * time.Second // an answer to one statement of a batch
)

// Open makes a store of a URL like mysql://user:password@host:3306/name (see Config) and sees that the server answers. The schema is not
// touched.
func Open(ctx context.Context, text string) (*Store, error) {
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("history.url is no URL") // the parser's error would show the password
	}
	conf, err := Config(u)
	if err != nil {
		return nil, fmt.Errorf("history.url: %w", err)
	}
	conf.Timeout = connectWithin
	conf.Collation = "utf8mb4_bin"
	// What is out of a column's range is an error and not cut.
	conf.Params = map[string]string{"sql_mode": "'STRICT_ALL_TABLES'"}
	connector, err := mysql.NewConnector(conf)
	if err != nil {
		return nil, fmt.Errorf("history.url: %w", err)
	}
	// A commit and a rollback of this driver heed no context: without a deadline of the connection's own a server that froze in the middle
	// of a transaction would hold the writer for good.
	writing := conf.Clone()
	writing.ReadTimeout, writing.WriteTimeout = answerWithin, answerWithin
	writer, err := mysql.NewConnector(writing)
	if err != nil {
		return nil, fmt.Errorf("history.url: %w", err)
	}
	s := &Store{
		db: sql.OpenDB(connector), writes: sql.OpenDB(writer), name: fmt.Sprintf("the MySQL database %s on %s", conf.DBName, conf.Addr),
	}
	s.register()
	s.db.SetMaxOpenConns(3)
	s.writes.SetMaxOpenConns(1)
	s.writes.SetConnMaxIdleTime(5 * time.Minute)
	s.db.SetConnMaxIdleTime(5 * time.Minute)
	ping, cancel := context.WithTimeout(ctx, connectWithin)
	defer cancel()
	if err := s.db.PingContext(ping); err != nil {
		_ = s.Close()
		if ping.Err() != nil && ctx.Err() == nil {
			return nil, fmt.Errorf("connecting to %s: it does not answer within %v", s.name, connectWithin)
		}
		return nil, s.wrap("connecting to", err)
	}
	return s, nil
}

// Describe names the database.
func (s *Store) Describe() string { return s.name }

// Close closes the connections.
func (s *Store) Close() error {
	mysql.DeregisterReaderHandler(s.loads)
	_ = s.db.Close() // fails where the server has ended a session already
	_ = s.writes.Close()
	return nil
}

func (s *Store) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	const noColumn, noTable = 1054, 1146
	var e *mysql.MySQLError
	if errors.As(err, &e) && (e.Number == noTable || e.Number == noColumn) {
		return history.NotMigrated(s.name, e.Message)
	}
	text := fmt.Errorf("%s %s: %w", doing, s.name, err)
	if e != nil {
		switch e.Number {
		case 1044, 1142, 1143, 1227, 1370: // a database, a table, a column, a privilege, a routine
			return &history.RightsError{Err: text}
		}
	}
	return text
}

// refused tells an error about what was sent from one about the server, by SQLSTATE: classes 22 (data) and 23 (constraints), and the
// error for text that the server has no form for.
func refused(err error) bool {
	var e *mysql.MySQLError
	if !errors.As(err, &e) {
		return false
	}
	state := string(e.SQLState[:2])
	return state == "22" || state == "23" || e.Number == 1366
}

// lockName is held while the schema or partitions are changed. Such names are of the whole server, so the database's is put before it.
const lockName = " weir schema"

// locked runs do on one connection under the lock; other engines wait for it.
func (s *Store) locked(ctx context.Context, do func(*sql.Conn) error) error {
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT(LEFT(DATABASE(), 40), ?), 60)", lockName).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return errors.New("another engine has been changing the tables for a minute")
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), connectWithin)
		defer cancel()
		_, _ = conn.ExecContext(ctx, "DO RELEASE_LOCK(CONCAT(LEFT(DATABASE(), 40), ?))", lockName)
	}()
	return do(conn)
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// applied returns how many steps are.
func applied(ctx context.Context, q queryer) (have int, err error) {
	err = q.QueryRowContext(ctx, "SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'weir_migration'").Scan(&have)
	if err == nil && have > 0 {
		err = q.QueryRowContext(ctx, "SELECT count(*) FROM weir_migration").Scan(&have)
	}
	return have, err
}

// Migrate brings the tables up to date.
func (s *Store) Migrate(ctx context.Context) error {
	steps, err := schema.Steps("mysql", "")
	if err != nil {
		return err
	}
	if have, err := applied(ctx, s.db); err == nil && have == len(steps) {
		return nil
	}
	return s.wrap("migrating", s.locked(ctx, func(conn *sql.Conn) error {
		if _, err := conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS weir_migration (version INT NOT NULL PRIMARY KEY, name VARCHAR(64) NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP)"); err != nil {
			return err
		}
		have, err := applied(ctx, conn)
		if err != nil {
			return err
		}
		missing, err := sqlrows.Missing(steps, have)
		if err != nil {
			return err
		}
		for _, step := range missing {
			for _, statement := range step.Statements() {
				if _, err := conn.ExecContext(ctx, statement); err != nil && !altered(err) {
					return fmt.Errorf("step %d, %s: %w", step.Version, step.Name, err)
				}
			}
			if _, err := conn.ExecContext(ctx, "INSERT INTO weir_migration (version, name) VALUES (?, ?)", step.Version, step.Name); err != nil {
				return err
			}
		}
		return nil
	}))
}

// altered tells the errors by which a server says that a table is changed already: a step that was cut off is run again from its
// beginning, and a new table may have from the first step on what a later one adds.
func altered(err error) bool {
	const duplicateColumn, nothingToDrop = 1060, 1091
	var e *mysql.MySQLError
	return errors.As(err, &e) && (e.Number == duplicateColumn || e.Number == nothingToDrop)
}

// Migrations tells the state of the schema.
func (s *Store) Migrations(ctx context.Context) ([]history.Migration, error) {
	steps, err := schema.Steps("mysql", "")
	if err != nil {
		return nil, err
	}
	have, err := applied(ctx, s.db)
	if err != nil {
		return nil, s.wrap("reading the state of", err)
	}
	return sqlrows.State(steps, have, ""), nil
}
