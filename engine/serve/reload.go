package serve

import (
	"errors"
	"strings"
	"time"

	"github.com/weirlb/weir/engine/config"
)

// Loaded takes in the result of reading the configuration file again: applied when it is valid, refused and shown in the
// health when it is not. The old configuration stays in that case. It tells which of both it was.
//
// A file that says nothing of pools is refused where there are some. So is one that was cut off when it was written, as on a full disk, and all pools
// would be gone from NGINX for it.
func (e *Engine) Loaded(conf *config.Config, warnings []config.Warning, err error) (applied bool) {
	for _, w := range warnings {
		e.log.Warn().Str("at", w.String()).Msg("configuration")
	}
	if err == nil && conf.PoolsAt == (config.Finding{}) && len(e.State().Names()) > 0 {
		err = errors.New("it has no pools any more, as a file that was cut off; where that is meant, write pools: []")
	}
	if err != nil {
		e.tel.ReloadsFailed.Inc()
		e.keepReload(config.Changes{}, err)
		e.reload.Store(&reloadFault{time.Now(), err.Error()})
		e.log.Error().Strs("problems", strings.Split(err.Error(), "\n")).Msg("the configuration file was refused; the one before stays")
		return false
	}
	e.reload.Store(nil)
	changes := e.Apply(conf)
	if e.models.wanted.Load() {
		_ = e.models.Configure(conf.Model) // logged, and in the health
	}
	e.keepReload(changes, nil)
	e.tel.ReloadsOK.Inc()
	e.tel.ConfigLoaded.Set(float64(time.Now().UnixMilli()) / 1000)
	if len(changes.Restart) > 0 {
		e.log.Warn().Strs("keys", changes.Restart).Msg("these keys take effect at the next start only")
	}
	if conf.Log.Level != "" {
		e.log.SetLevel(string(conf.Log.Level))
	}
	if changes.None() {
		e.log.Info().Msg("configuration read again; nothing changed")
		return true
	}
	e.log.Info().Strs("added", changes.Added).Strs("removed", changes.Removed).Strs("changed", changes.Changed).
		Strs("keys", changes.Live).Msg("configuration applied")
	return true
}
