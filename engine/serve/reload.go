package serve

import (
	"strings"
	"time"

	"github.com/weirlb/weir/engine/config"
)

// Loaded takes in the result of reading the configuration file again: applied when it is valid, refused and shown in the
// health when it is not. The old configuration stays in that case.
func (e *Engine) Loaded(conf *config.Config, warnings []config.Warning, err error) {
	for _, w := range warnings {
		e.log.Warn().Str("at", w.String()).Msg("configuration")
	}
	if err != nil {
		e.tel.ReloadsFailed.Inc()
		e.keepReload(config.Changes{}, err)
		e.reload.Store(&reloadFault{time.Now(), err.Error()})
		e.log.Error().Strs("problems", strings.Split(err.Error(), "\n")).Msg("the configuration file was refused; the one before stays")
		return
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
		return
	}
	e.log.Info().Strs("added", changes.Added).Strs("removed", changes.Removed).Strs("changed", changes.Changed).
		Strs("keys", changes.Live).Msg("configuration applied")
}
