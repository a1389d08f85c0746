"""In SGLang's place: ``python -m sglang.launch_server`` with its routes for token ids."""

import sys

from serving import option, serve, served


def answer(path, body):
    if path == "/get_server_info":
        return {"version": "0.5", "attention_backend": "fa3", "argv": sys.argv[1:]}
    assert path == "/generate"
    assert body["return_logprob"] is True
    sampling = body["sampling_params"]
    assert sampling["ignore_eos"] is True
    found = []
    for prompt in body["input_ids"]:
        tokens, logprobs = served(prompt, sampling["max_new_tokens"])
        if "sampling_seed" in sampling:
            tokens = [token + sampling["sampling_seed"] for token in tokens]
        steps = [[lp, token, None] for lp, token in zip(logprobs, tokens, strict=True)]
        found.append({"meta_info": {"output_token_logprobs": steps}})
    return found


print("asked for", sys.argv[1:], flush=True)
serve(int(option("--port")), answer)
