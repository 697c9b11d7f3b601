package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/jackc/pgx/v5"

	pg "github.com/weirlb/weir/engine/history/postgres"
)

type postgres struct {
	conn  *pgx.Conn
	name  string
	leads bool
}

// Keys of advisory locks: "weir" and a number. One serialises publishers, so that sequence numbers become visible in their order; one is
// held by the leader. The number 1 is the history's, for its schema.
const (
	lockPublish = 0x77656972_00000004
	lockLead    = 0x77656972_00000002
)

func openPostgres(ctx context.Context, u *url.URL) (Exchange, error) {
	query := u.Query()
	for _, own := range []string{"weir_copy", "pool_max_conns"} { // of the history, which may be in the same URL
		query.Del(own)
	}
	u.RawQuery = query.Encode()
	conf, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, pg.Refused(u, err)
	}
	if conf.ConnectTimeout <= 0 || conf.ConnectTimeout > within {
		conf.ConnectTimeout = within
	}
	conf.RuntimeParams["application_name"] = "weir models"
	ctx, cancel := context.WithTimeout(ctx, 2*within)
	defer cancel()
	p := &postgres{name: fmt.Sprintf("the PostgreSQL database %s on %s", conf.Database, conf.Host)}
	if p.conn, err = pgx.ConnectConfig(ctx, conf); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", p.name, err)
	}
	switch shared, err := sessionsShared(ctx, conf, p.conn); {
	case err != nil:
		p.Close()
		return nil, fmt.Errorf("preparing %s: %w", p.name, err)
	case shared:
		p.Close()
		return nil, fmt.Errorf("%s is behind a pooler that gives each transaction another session, as PgBouncer does with pool_mode=transaction; notifications and the election need a session of their own: "+
			"set learn.share to the database's own address, or let the pooler have pool_mode=session for it", p.name)
	}
	if _, err = p.conn.Exec(ctx, "LISTEN weir_shared_model"); err != nil {
		p.Close()
		return nil, fmt.Errorf("preparing %s: %w", p.name, err)
	}
	return p, nil
}

// sessionsShared tells whether a pooler gives the sessions of its clients to others between their transactions. Where the process that a
// connection began with is the one that answers there is no pooler. Behind one, a second connection's transaction gets the session that the
// first has just used, or the first is answered by another one afterwards, unless its sessions are its own.
func sessionsShared(ctx context.Context, conf *pgx.ConnConfig, first *pgx.Conn) (bool, error) {
	pid := func(conn *pgx.Conn) (pid uint32, err error) {
		err = conn.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeSimpleProtocol).Scan(&pid)
		return pid, err
	}
	before, err := pid(first)
	if err != nil || before == first.PgConn().PID() {
		return false, err
	}
	second, err := pgx.ConnectConfig(ctx, conf)
	if err != nil {
		return false, err
	}
	defer func() { _ = second.Close(ctx) }()
	if _, err := second.Exec(ctx, "BEGIN"); err != nil {
		return false, err
	}
	other, err := pid(second)
	if err != nil {
		return false, err
	}
	after, err := pid(first)
	return other == before || after != before, err
}

// locked runs do in a transaction that holds a lock.
func (p *postgres) locked(ctx context.Context, lock int64, do func(pgx.Tx) error) error {
	return pgx.BeginFunc(ctx, p.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", lock); err != nil {
			return err
		}
		return do(tx)
	})
}

func (p *postgres) Publish(ctx context.Context, m Publication) error {
	if err := m.clean(); err != nil {
		return err
	}
	if m.File == nil {
		m.File = []byte{}
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	return p.locked(ctx, lockPublish, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO weir_shared_model (kind, model, base, instance, zone, engine, why, samples, at_ms, file) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
			m.Kind, m.Model, m.Base, m.Instance, m.Zone, m.Engine, m.Why, m.Samples, m.AtMS, m.File)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `DELETE FROM weir_shared_model WHERE kind = $1 AND seq <= (SELECT seq FROM weir_shared_model WHERE kind = $1 ORDER BY seq DESC OFFSET $2 LIMIT 1)`,
			m.Kind, keeps(m.Kind))
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "NOTIFY weir_shared_model")
		return err
	})
}

func (p *postgres) After(ctx context.Context, seq int64, trained bool) ([]Publication, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*within)
	defer cancel()
	rows, err := p.conn.Query(ctx, `SELECT seq, kind, model, base, instance, zone, engine, why, samples, at_ms, file FROM weir_shared_model
		WHERE seq > $1 AND (kind <> 'trained' OR $2) AND length(file) <= $3 ORDER BY seq`, seq, trained, maxFile)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Publication, err error) {
		err = row.Scan(&m.Seq, &m.Kind, &m.Model, &m.Base, &m.Instance, &m.Zone, &m.Engine, &m.Why, &m.Samples, &m.AtMS, &m.File)
		return m, err
	})
}

func (p *postgres) Wait(ctx context.Context, most time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	if _, err := p.conn.WaitForNotification(wait); err != nil && wait.Err() == nil {
		return err
	}
	if ctx.Err() == nil && p.conn.IsClosed() {
		return errors.New("the connection was lost")
	}
	return nil
}

func (p *postgres) Lead(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if p.leads {
		return true, p.conn.Ping(ctx) // a session that the server has ended holds nothing
	}
	err := p.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", int64(lockLead)).Scan(&p.leads)
	return p.leads, err
}

func (p *postgres) Resign(ctx context.Context) error {
	if !p.leads {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	p.leads = false
	_, err := p.conn.Exec(ctx, "SELECT pg_advisory_unlock($1)", int64(lockLead))
	return err
}

func (p *postgres) Describe() string { return p.name }

func (p *postgres) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = p.conn.Close(ctx)
}
