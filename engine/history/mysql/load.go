package mysql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"

	"github.com/go-sql-driver/mysql"

	"github.com/weirlb/weir/engine/history"
)

// LOAD DATA LOCAL takes half of the server's time that INSERT takes, since the server parses no statement. MariaDB allows it from the
// beginning, MySQL 8 where local_infile is on; elsewhere rows go in by INSERT. The driver sends what is registered with it and no file,
// whatever a server asks for.

// loadFrom is the number of outcomes from which on it pays: it is a few exchanges with the server more.
const loadFrom = 200

const loadOutcomes = " INTO TABLE weir_outcome CHARACTER SET binary FIELDS TERMINATED BY ',' LINES TERMINATED BY '\\n' (" + outcomeColumns + ")"

// errNotLoaded says that a batch must go in by INSERT. LOAD DATA LOCAL makes what does not fit into something that does; INSERT refuses.
var errNotLoaded = errors.New("the server did not load the rows as they are")

var loaders atomic.Int64 // names of those registered with the driver

// loader is one batch's outcomes as lines of numbers, made while they are sent.
type loader struct {
	list   []history.Outcome
	series []int32
	engine int32

	made, rest []byte
}

// Read implements io.Reader.
func (l *loader) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		if len(l.list) == 0 {
			return 0, io.EOF
		}
		l.made = l.made[:0]
		for len(l.list) > 0 && len(l.made) < len(p) {
			o := &l.list[0]
			l.made = append(appendOutcome(l.made, o, l.series[o.Series], l.engine), '\n')
			l.list = l.list[1:]
		}
		l.rest = l.made
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

// register makes the driver ask s for what LOAD DATA sends. It must be taken back.
func (s *Store) register() {
	s.loads = "weir-" + strconv.FormatInt(loaders.Add(1), 10)
	mysql.RegisterReaderHandler(s.loads, func() io.Reader { return &s.load })
}

// loadRows stores outcomes by LOAD DATA.
func (s *Store) loadRows(ctx context.Context, tx *sql.Tx, list []history.Outcome, series []int32, engine int32) error {
	s.load.list, s.load.series, s.load.engine, s.load.rest = list, series, engine, nil
	done, err := tx.ExecContext(ctx, "LOAD DATA LOCAL INFILE 'Reader::"+s.loads+"'"+loadOutcomes)
	if err != nil {
		var e *mysql.MySQLError
		if !errors.As(err, &e) {
			return err
		}
		if forbidden(e.Number) {
			s.noLoad = true
		}
		return fmt.Errorf("%w: %w", errNotLoaded, err)
	}
	if n, err := done.RowsAffected(); err != nil || n != int64(len(list)) {
		return fmt.Errorf("%w: %d of %d", errNotLoaded, n, len(list))
	}
	return warned(ctx, tx)
}

// forbidden tells the errors of a server, or of a proxy before it, that takes no LOAD DATA LOCAL at all.
func forbidden(number uint16) bool {
	switch number {
	case 1047, 1148, 1235, 3948, 4166: // unknown command, not allowed, not supported, switched off (MySQL), switched off (MariaDB)
		return true
	}
	return false
}

// warned is an error when the server warned of what it did to the rows. A note, as of how the statement is replicated, is none.
func warned(ctx context.Context, tx *sql.Tx) error {
	var n int
	if err := tx.QueryRowContext(ctx, "SELECT @@warning_count").Scan(&n); err != nil || n == 0 {
		return err
	}
	rows, err := tx.QueryContext(ctx, "SHOW WARNINGS")
	if err != nil {
		return err
	}
	defer rows.Close()
	told := 0
	for ; rows.Next(); told++ {
		var level, text string
		var code int
		if err := rows.Scan(&level, &code, &text); err != nil {
			return err
		}
		if level != "Note" {
			return fmt.Errorf("%w: %s", errNotLoaded, text)
		}
	}
	if err := rows.Err(); err != nil || told > 0 {
		return err
	}
	return fmt.Errorf("%w: %d warnings", errNotLoaded, n) // that the server does not keep
}
