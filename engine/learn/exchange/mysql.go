package exchange

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	my "github.com/weirlb/weir/engine/history/mysql"
)

type mariadb struct {
	db    *sql.DB
	conn  *sql.Conn // one session: locks belong to it
	name  string
	leads bool
}

func openMySQL(ctx context.Context, u *url.URL) (Exchange, error) {
	conf, err := my.Config(u)
	if err != nil {
		return nil, err
	}
	conf.Timeout, conf.ReadTimeout, conf.WriteTimeout = within, 2*within, 2*within
	connector, err := mysql.NewConnector(conf)
	if err != nil {
		return nil, errors.New("it has what MySQL does not know; it must be as mysql://user@host:3306/name?tls=true")
	}
	m := &mariadb{db: sql.OpenDB(connector), name: fmt.Sprintf("the MySQL database %s on %s", conf.DBName, conf.Addr)}
	ctx, cancel := context.WithTimeout(ctx, 2*within)
	defer cancel()
	if m.conn, err = m.db.Conn(ctx); err != nil {
		_ = m.db.Close()
		return nil, fmt.Errorf("connecting to %s: %w", m.name, err)
	}
	return m, nil
}

// lock names are of the whole server, so they have the database in them.
func (m *mariadb) lock(ctx context.Context, what string, wait int) (bool, error) {
	var got sql.NullInt64
	err := m.conn.QueryRowContext(ctx, "SELECT GET_LOCK(CONCAT(LEFT(DATABASE(), 40), ?), ?)", " weir "+what, wait).Scan(&got)
	return got.Int64 == 1, err
}

func (m *mariadb) unlock(ctx context.Context, what string) error {
	_, err := m.conn.ExecContext(ctx, "DO RELEASE_LOCK(CONCAT(LEFT(DATABASE(), 40), ?))", " weir "+what)
	return err
}

func (m *mariadb) Publish(ctx context.Context, p Publication) (err error) {
	if err := p.clean(); err != nil {
		return err
	}
	if p.File == nil {
		p.File = []byte{}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	// Publishers come one after the other, so that numbers become visible in their order.
	switch got, err := m.lock(ctx, "publish", 3); {
	case err != nil:
		return err
	case !got:
		return errors.New("others have been publishing for three seconds")
	}
	defer func() {
		if e := m.unlock(ctx, "publish"); err == nil {
			err = e
		}
	}()
	_, err = m.conn.ExecContext(ctx, "INSERT INTO weir_shared_model (kind, model, base, instance, zone, engine, why, samples, at_ms, file) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
		string(p.Kind), p.Model, p.Base, p.Instance, p.Zone, p.Engine, strings.ToValidUTF8(p.Why, "?"), p.Samples, p.AtMS, p.File)
	if err != nil {
		return err
	}
	var old int64
	switch err := m.conn.QueryRowContext(ctx, "SELECT seq FROM weir_shared_model WHERE kind = ? ORDER BY seq DESC LIMIT 1 OFFSET ?", string(p.Kind), keeps(p.Kind)).Scan(&old); {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	_, err = m.conn.ExecContext(ctx, "DELETE FROM weir_shared_model WHERE kind = ? AND seq <= ?", string(p.Kind), old)
	return err
}

func (m *mariadb) After(ctx context.Context, seq int64, trained bool) (out []Publication, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*within)
	defer cancel()
	rows, err := m.conn.QueryContext(ctx, `SELECT seq, kind, model, base, instance, zone, engine, why, samples, at_ms, file FROM weir_shared_model
		WHERE seq > ? AND (kind <> 'trained' OR ?) AND LENGTH(file) <= ? ORDER BY seq`, seq, trained, maxFile)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var p Publication
		if err := rows.Scan(&p.Seq, &p.Kind, &p.Model, &p.Base, &p.Instance, &p.Zone, &p.Engine, &p.Why, &p.Samples, &p.AtMS, &p.File); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, rows.Err()
}

func (m *mariadb) Wait(ctx context.Context, most time.Duration) error {
	pause(ctx, min(most, pollEvery))
	return nil
}

func (m *mariadb) Lead(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if m.leads {
		return true, m.conn.PingContext(ctx)
	}
	got, err := m.lock(ctx, "lead", 0)
	m.leads = got
	return got, err
}

func (m *mariadb) Resign(ctx context.Context) error {
	if !m.leads {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	m.leads = false
	return m.unlock(ctx, "lead")
}

func (m *mariadb) Describe() string { return m.name }

func (m *mariadb) Close() {
	_ = m.conn.Close()
	_ = m.db.Close()
}
