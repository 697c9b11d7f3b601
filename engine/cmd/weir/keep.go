package main

import (
	"context"
	"time"

	"github.com/weirlb/weir/engine/config"
	"github.com/weirlb/weir/engine/history"
	"github.com/weirlb/weir/engine/history/record"
	"github.com/weirlb/weir/engine/history/stores"
	"github.com/weirlb/weir/engine/telemetry"
)

// keepWithin bounds what the end of the engine waits for the history store. What it has not taken by then waits on the disk.
const keepWithin = 300 * time.Millisecond

const dayMS = 24 * 3_600_000

// newRecorder makes the recorder that a configuration asks for, nil when history is off.
func (c *serveCmd) newRecorder(conf *config.Config, log *telemetry.Log, tel *telemetry.Metrics) *record.Recorder {
	h := conf.History
	if h.URL == config.HistoryOff {
		return nil
	}
	opt := record.Options{
		Dir: h.Dir, SpoolBytes: int64(h.SpoolMB) << 20, Instance: conf.Instance, Zone: conf.Zone, SampleAbove: float64(h.SampleAbove),
		Keep: retention(h), Log: log, Tel: tel.History(),
		Open: func(ctx context.Context) (history.Store, error) { return stores.Open(ctx, h) },
	}
	if c.tune != nil {
		c.tune(&opt)
	}
	return record.New(opt)
}

func retention(h config.History) history.Retention {
	return history.Retention{RawMS: int64(h.RawDays) * dayMS, RollupMS: int64(h.RollupDays) * dayMS, MaxBytes: int64(h.MaxMB) << 20}
}

// stopRecorder ends it, in short time.
func stopRecorder(r *record.Recorder, log *telemetry.Log) {
	if r == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), keepWithin)
	defer cancel()
	if err := r.Close(ctx); err != nil {
		log.Warn().Str("error", err.Error()).Msg("closing the history store")
	}
}
