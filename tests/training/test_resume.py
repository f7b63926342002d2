"""risk"""
import time

import pytest
import torch

from mcvqa.training import loop


def test_risk(make_trainer, monkeypatch, tmp_path):
    S = dict(num_epochs=2, use_ema=True, use_swa=True, lora_dropout=0.1, save_minutes=0)
    t=time.time(); a = make_trainer(**S); print("made", time.time()-t)
    t=time.time(); ra = a.run(); print("ran", time.time()-t, sum(p.numel() for p in a.parameters.values()))
    def same(x, rx):
        one, two = x.learned.tensors(), a.learned.tensors()
        assert one.keys() == two.keys()
        for k in one: assert torch.equal(one[k], two[k]), k
        for n in ra.variants:
            for p, q in zip(ra.variants[n].logprobs, rx.variants[n].logprobs): assert (p == q).all()
        assert torch.equal(torch.get_rng_state(), rng)
        assert rx.best_epoch == ra.best_epoch and rx.accuracy == ra.accuracy
    rng = torch.get_rng_state()
    plain = loop.FoldTrainer._step
    for k in range(6):
        def step(self, *args, k=k):
            if self.step == k and not getattr(self, "gone_on", False):
                raise MemoryError
            return plain(self, *args)
        monkeypatch.setattr(loop.FoldTrainer, "_step", step)
        b = make_trainer(**S)
        with pytest.raises(MemoryError): b.run()
        t=time.time()
        c = make_trainer(**S); c.folder = b.folder; c.gone_on = True
        rc = c.run()
        print(k, time.time()-t)
        same(c, rc)
