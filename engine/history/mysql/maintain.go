package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/history"
)

const (
	aheadDays = 3 // of partitions made beforehand: so long may every engine be away
	lateDays  = 8 // what waited in a spool for days has a partition of its day
)

// parted is a table that is kept in pieces of time.
type parted struct {
	name   string
	keepMS int64
	floor  func(time.Time) time.Time
	next   func(time.Time) time.Time
}

func tables(keep history.Retention) []parted {
	day := func(t time.Time) time.Time { return t.Truncate(24 * time.Hour) }
	nextDay := func(t time.Time) time.Time { return t.AddDate(0, 0, 1) }
	month := func(t time.Time) time.Time { return time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC) }
	nextMonth := func(t time.Time) time.Time { return t.AddDate(0, 1, 0) }
	return []parted{
		{"weir_outcome", keep.RawMS, day, nextDay},
		{"weir_rollup", keep.RollupMS, month, nextMonth},
		{"weir_metric", keep.RollupMS, month, nextMonth},
	}
}

// Maintain makes partitions ahead and deletes what is too old. Of several engines one does it at a time.
func (s *Store) Maintain(ctx context.Context, nowMS int64, keep history.Retention) error {
	return s.wrap("maintaining", s.locked(ctx, func(conn *sql.Conn) error {
		// A reader that takes hours must not make writers wait behind a change of the table.
		if _, err := conn.ExecContext(ctx, "SET SESSION lock_wait_timeout = 2"); err != nil {
			return err
		}
		now := time.UnixMilli(nowMS).UTC()
		for _, t := range tables(keep) {
			if err := partitions(ctx, conn, t, now); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
		for table, ms := range map[string]int64{"weir_batch": keep.RawMS, "weir_event": keep.RollupMS} {
			if ms <= 0 {
				continue
			}
			if _, err := conn.ExecContext(ctx, "DELETE FROM "+table+" WHERE at_ms < ?", nowMS-ms); err != nil {
				return fmt.Errorf("%s: %w", table, err)
			}
		}
		return nil
	}))
}

// partitions cuts pieces off the last one, which holds all that is later, and drops those that are too old. A partition is named
// by where it ends.
func partitions(ctx context.Context, conn *sql.Conn, t parted, now time.Time) error {
	ends, err := existing(ctx, conn, t.name)
	if err != nil {
		return err
	}
	// The first one ends where what is kept begins, so that it can be dropped.
	first := t.floor(now.Add(-max(lateDays*24*time.Hour, time.Duration(t.keepMS)*time.Millisecond)))
	at := first
	if n := len(ends); n > 0 {
		at = time.UnixMilli(ends[n-1]).UTC()
	}
	var made []string
	for end := t.next(at); at.Before(now.AddDate(0, 0, aheadDays)); at, end = end, t.next(end) {
		made = append(made, fmt.Sprintf("PARTITION p%d VALUES LESS THAN (%d)", end.UnixMilli(), end.UnixMilli()))
	}
	if len(ends) == 0 { // one for all that is older
		made = append([]string{fmt.Sprintf("PARTITION p%d VALUES LESS THAN (%d)", first.UnixMilli(), first.UnixMilli())}, made...)
	}
	if len(made) > 0 {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s REORGANIZE PARTITION later INTO (%s, PARTITION later VALUES LESS THAN MAXVALUE)", t.name, strings.Join(made, ", ")))
		if err != nil {
			return err
		}
	}
	if t.keepMS <= 0 {
		return nil
	}
	oldest := now.UnixMilli() - t.keepMS
	for _, end := range ends {
		if end <= oldest {
			if _, err := conn.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s DROP PARTITION p%d", t.name, end)); err != nil {
				return err
			}
		}
	}
	return nil
}

// existing returns where the partitions end, in order, without the last.
func existing(ctx context.Context, conn *sql.Conn, table string) (ends []int64, err error) {
	rows, err := conn.QueryContext(ctx, "SELECT CAST(partition_description AS SIGNED) FROM information_schema.partitions WHERE table_schema = DATABASE() AND table_name = ? AND partition_description <> 'MAXVALUE' ORDER BY 1", table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var end int64
		if err := rows.Scan(&end); err != nil {
			return nil, err
		}
		ends = append(ends, end)
	}
	return ends, rows.Err()
}
