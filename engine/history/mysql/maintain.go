package mysql

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/sqlrows"
)

// Maintain makes partitions ahead and deletes what is too old. Of several engines one does it at a time.
func (s *Store) Maintain(ctx context.Context, nowMS int64, keep history.Retention) error {
	return s.wrap("maintaining", s.locked(ctx, func(conn *sql.Conn) error {
		// A reader that takes hours must not make writers wait behind a change of the table.
		if _, err := conn.ExecContext(ctx, "SET SESSION lock_wait_timeout = 2"); err != nil {
			return err
		}
		now := time.UnixMilli(nowMS).UTC()
		for _, t := range sqlrows.Tables(keep) {
			if err := partitions(ctx, conn, t, now); err != nil {
				return fmt.Errorf("%s: %w", t.Name, err)
			}
		}
		for table, ms := range sqlrows.Others(keep) {
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
func partitions(ctx context.Context, conn *sql.Conn, t sqlrows.Parted, now time.Time) error {
	ends, err := existing(ctx, conn, t.Name)
	if err != nil {
		return err
	}
	// The first one ends where what is kept begins, so that it can be dropped.
	first := t.Floor(now.Add(-max(sqlrows.LateDays*24*time.Hour, time.Duration(t.KeepMS)*time.Millisecond)))
	at := first
	if n := len(ends); n > 0 {
		at = time.UnixMilli(ends[n-1]).UTC()
	}
	var made []string
	for end := t.Next(at); at.Before(now.AddDate(0, 0, sqlrows.AheadDays)); at, end = end, t.Next(end) {
		made = append(made, fmt.Sprintf("PARTITION p%d VALUES LESS THAN (%d)", end.UnixMilli(), end.UnixMilli()))
	}
	if len(ends) == 0 { // one for all that is older
		made = append([]string{fmt.Sprintf("PARTITION p%d VALUES LESS THAN (%d)", first.UnixMilli(), first.UnixMilli())}, made...)
	}
	if len(made) > 0 {
		_, err := conn.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s REORGANIZE PARTITION later INTO (%s, PARTITION later VALUES LESS THAN MAXVALUE)", t.Name, strings.Join(made, ", ")))
		if err != nil {
			return err
		}
	}
	if t.KeepMS <= 0 {
		return nil
	}
	oldest := now.UnixMilli() - t.KeepMS
	for _, end := range ends {
		if end <= oldest {
			if _, err := conn.ExecContext(ctx, fmt.Sprintf("ALTER TABLE %s DROP PARTITION p%d", t.Name, end)); err != nil {
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
