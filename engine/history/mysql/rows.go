package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math"
)

// eachRow yields the rows of a statement as the driver reads them: int64, float32, float64, []byte, and nil for NULL, valid during the
// call. database/sql's Scan would convert each value by way of its text, which takes more time than the server needs to find the row.
//
// It asks by a prepared statement, so that numbers come in binary form. It holds a connection, and yield must not wait for another one.
func eachRow(ctx context.Context, db *sql.DB, query string, args []int64, yield func([]driver.Value) error) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	err = conn.Raw(func(of any) (err error) {
		prepare, ok := of.(driver.ConnPrepareContext)
		if !ok {
			return errDriver
		}
		prepared, err := prepare.PrepareContext(ctx, query)
		if err != nil {
			return err
		}
		defer func() { _ = prepared.Close() }()
		ask, ok := prepared.(driver.StmtQueryContext)
		if !ok {
			return errDriver
		}
		named := make([]driver.NamedValue, len(args))
		for i, x := range args {
			named[i] = driver.NamedValue{Ordinal: i + 1, Value: x}
		}
		rows, err := ask.QueryContext(ctx, named)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rows.Close()) }()
		row := make([]driver.Value, len(rows.Columns()))
		for {
			switch err := rows.Next(row); {
			case errors.Is(err, io.EOF):
				return nil
			case err != nil:
				return err
			}
			if err := yield(row); err != nil {
				return err
			}
		}
	})
	if err != nil && ctx.Err() != nil {
		return ctx.Err() // a connection that was cut because of it says something else
	}
	return err
}

var errDriver = errors.New("the driver cannot prepare statements")

// reader takes the values of a row in their order. A column of another type than weir gave it is an error.
type reader struct {
	row []driver.Value
	at  int
	err error
}

func (r *reader) next() driver.Value {
	r.at++
	return r.row[r.at-1]
}

func (r *reader) wrong(x driver.Value) {
	if r.err == nil {
		r.err = fmt.Errorf("column %d is a %T, which is not what weir made", r.at, x)
	}
}

func (r *reader) int() int64 {
	v := r.next()
	x, ok := v.(int64)
	if !ok {
		r.wrong(v)
	}
	return x
}

func (r *reader) float() float32 {
	switch x := r.next().(type) {
	case float32:
		return x
	case nil:
		return float32(math.NaN())
	default:
		r.wrong(x)
	}
	return 0
}

func (r *reader) double() float64 {
	v := r.next()
	x, ok := v.(float64)
	if !ok {
		r.wrong(v)
	}
	return x
}

func (r *reader) bytes() []byte {
	v := r.next()
	x, ok := v.([]byte)
	if !ok {
		r.wrong(v)
	}
	return x
}
