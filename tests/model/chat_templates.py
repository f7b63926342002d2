"""Chat templates of the kinds that published models have, written for these tests with the marks of `tiny`.

What differs between them is how the generation prompt and the conversation begin an answer, which arguments they read, and
whether they take content as parts or as text.
"""

IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
PARTS = "{% for part in m.content %}{% if part.type == 'image' %}" + IMAGE + "{% else %}{{ part.text }}{% endif %}{% endfor %}"
TURN = "<|im_start|>{{ m.role }}\n" + PARTS + "<|im_end|>\n"


def thinking(condition: str) -> str:
    """Qwen3.5 and 3.6: an answer has a thought, and the prompt begins one, or, where `condition` holds, has an empty one."""
    return (
        "{%- for m in messages %}{% if m.role == 'assistant' %}"
        "<|im_start|>assistant\n<think>\n\n</think>\n\n{% generation %}" + PARTS + "<|im_end|>\n{% endgeneration %}"
        "{% else %}" + TURN + "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if " + condition + " %}{{ '<think>\n\n</think>\n\n' }}{% else %}{{ '<think>\n' }}{% endif %}{% endif %}"
    )


# name -> (template, whether the conversation that it renders goes on from its prompt when nothing is set)
KINDS = {
    "qwen3-vl": (
        "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", True),
    "qwen3.5, thinks unless told": (thinking("enable_thinking is defined and enable_thinking is false"), True),
    "qwen3.5, thinks when told": (thinking("not (enable_thinking is defined and enable_thinking is true)"), True),
    "gemma 3: the system's text opens the user's turn, parts are trimmed": (
        "{% set first = messages[0].content[0].text + '\n\n' if messages[0].role == 'system' else '' %}"
        "{% for m in (messages[1:] if first else messages) %}"
        "{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}"
        "<|im_start|>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ first if loop.first else '' }}"
        "{% for part in m.content %}{% if part.type == 'image' %}" + IMAGE + "{% else %}{{ part.text | trim }}{% endif %}"
        "{% endfor %}"
        "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>model\n{% endif %}", True),
    "gemma 4: the prompt holds an empty thought, the conversation none": (
        "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{% if not (enable_thinking | default(false)) %}<|channel>thought\n<channel|>{% endif %}{% endif %}", False),
    "qwen3: the conversation holds an empty thought, the prompt none": (
        "{% for m in messages %}{% if m.role == 'assistant' %}<|im_start|>assistant\n<think>\n\n</think>\n\n" + PARTS +
        "<|im_end|>\n{% else %}" + TURN + "{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", False),
    "idefics3, smolvlm: a space behind the colon of the answer only": (
        "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}{{ ':' if m.content[0].type == 'image' else ': ' }}" +
        PARTS + "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}", True),
    "llava-next: no generation prompt, pictures first": (
        "{% for m in messages %}{% if m.role == 'system' %}<<SYS>>\n{{ m.content[0].text }}\n<</SYS>>\n\n"
        "{% elif m.role == 'user' %}[INST] {% for part in m.content | selectattr('type', 'equalto', 'image') %}" + IMAGE + "\n"
        "{% endfor %}{% for part in m.content | selectattr('type', 'equalto', 'text') %}{{ part.text }}{% endfor %} [/INST]"
        "{% else %}{{ ' ' + m.content[0].text + '<|im_end|> ' }}{% endif %}{% endfor %}", True),
    "pixtral: the system's message is text, and stands before the last user's turn only": (
        "{% if messages[0].role == 'system' %}{% set system = messages[0].content %}{% set rest = messages[1:] %}"
        "{% else %}{% set rest = messages %}{% endif %}"
        "{% for m in rest %}{% if m.role == 'user' %}{% if loop.last and system is defined %}"
        "{{ '[INST]' + system + '\n\n' }}{% else %}{{ '[INST]' }}{% endif %}" + PARTS + "[/INST]"
        "{% else %}" + PARTS + "<|im_end|>{% endif %}{% endfor %}", False),
    "lfm2-vl: parts are gathered by a macro": (
        "{%- macro joined(content) -%}{%- if content is string -%}{{- content -}}{%- else -%}{%- set ns = namespace(all='') -%}"
        "{%- for part in content -%}{%- set ns.all = ns.all + ('" + IMAGE + "' if part.type == 'image' else part.text) -%}"
        "{%- endfor -%}{{- ns.all -}}{%- endif -%}{%- endmacro -%}"
        "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\n' + joined(m.content) + '<|im_end|>\n' -}}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\n' -}}{%- endif -%}", True),
    "deepseek, granite: another name for the switch": (
        "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
        "{{ '<think>' if thinking | default(true) else '' }}{% endif %}", True),
    "text alone is text": (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}{% else %}"
        "{% if m.content | length < 2 %}{{ raise_exception('text expected') }}{% endif %}" + PARTS + "{% endif %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", True),
    "llama 3.2, mistral small: the day is stated": (
        "{% if not date_string is defined %}{% if strftime_now is defined %}{% set date_string = strftime_now('%d %b %Y') %}"
        "{% else %}{% set date_string = '26 Jul 2024' %}{% endif %}{% endif %}{{ 'Today Date: ' + date_string + '\n' }}"
        "{% for m in messages %}" + TURN + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}", True),
}
