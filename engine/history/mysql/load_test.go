package mysql

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/storetest"
)

// set changes a variable of the server for a test. Sessions that are open keep what they have.
func set(t *testing.T, name, value, after string) {
	t.Helper()
	if err := server.SQL("SET GLOBAL " + name + " = " + value); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.SQL("SET GLOBAL " + name + " = " + after) })
}

func TestAServerThatTakesNoLoadDataGetsInserts(t *testing.T) {
	s := storetest.Ready(t, opener(t, "")).(*Store)
	fill(t, s, 1)
	if s.noLoad {
		t.Error("this server takes LOAD DATA LOCAL, which costs it half")
	}
	set(t, "local_infile", "OFF", "ON")
	fill(t, s, 2)
	if outcomes, attempts, samples := counted(t, s); outcomes != 1000 || attempts != 1000 || samples != 16 || !s.noLoad {
		t.Errorf("%d outcomes, %d attempts, %v samples; without LOAD DATA: %v", outcomes, attempts, samples, s.noLoad)
	}
}

// LOAD DATA LOCAL would store the largest number there is in place of one that is too large.
func TestWhatDoesNotFitIsRefusedAndNotMadeToFit(t *testing.T) {
	s := storetest.Ready(t, opener(t, "")).(*Store)
	if _, err := s.db.ExecContext(t.Context(), "ALTER TABLE weir_outcome MODIFY bytes SMALLINT NOT NULL"); err != nil {
		t.Fatal(err)
	}
	b := storetest.Batch(1, 500, 2, 2)
	_, err := s.Write(t.Context(), b)
	var refused *history.DataError
	if !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
	if outcomes, attempts, _ := counted(t, s); outcomes != 0 || attempts != 0 {
		t.Errorf("%d outcomes and %d attempts are stored", outcomes, attempts)
	}
	for i := range b.Outcomes { // the next batch is no worse for it
		b.Outcomes[i].Bytes = 7
	}
	if w, err := s.Write(t.Context(), b); err != nil || w.Duplicate || w.Rows != b.Rows() || s.noLoad {
		t.Errorf("%v, %+v", err, w)
	}
}

func TestAServerThatTakesSmallPacketsOnlyGetsAllRows(t *testing.T) {
	open := opener(t, "")
	set(t, "max_allowed_packet", "65536", "16777216")
	s := storetest.Ready(t, open).(*Store)
	for seq, noLoad := range []bool{false, true} {
		s.noLoad = noLoad
		b := storetest.Batch(uint64(seq+1), 5000, 20, 10)
		b.Events = []history.Event{{AtMS: storetest.Now(), Kind: history.Config, Detail: strings.Repeat("x", 8000)}}
		if w, err := s.Write(t.Context(), b); err != nil || w.Rows != b.Rows() {
			t.Errorf("%v, %+v", err, w)
		}
	}
	if outcomes, attempts, _ := counted(t, s); outcomes != 10_000 || attempts != 10_000 {
		t.Errorf("%d outcomes, %d attempts", outcomes, attempts)
	}
}
