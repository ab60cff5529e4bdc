# Copyright (c) 2026, The agentless.hyperv authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the page of a report looks, and its one small program. Both are constants, named by their hash in the page's own policy: nothing
else may style or run there, even if something slipped through."""
from __future__ import annotations

import base64
import hashlib

CSS = """
:root{color-scheme:light dark;--ink:#1c2328;--dim:#5b6770;--page:#f5f6f7;--card:#fff;--rule:#d9dee2;--bad:#b3261e;--badbg:#fdecea;
--warn:#8a5a00;--warnbg:#fff4dc;--good:#1b6e3c;--goodbg:#e6f4ea;--calm:#44525c;--calmbg:#e9edf0;--bar:#3b6ea5}
@media(prefers-color-scheme:dark){:root{--ink:#e4e8eb;--dim:#9aa7b0;--page:#14181b;--card:#1d2226;--rule:#343c42;--bad:#ff8f87;
--badbg:#43201e;--warn:#f5c35b;--warnbg:#3c2f12;--good:#7fd3a0;--goodbg:#16351f;--calm:#b4c0c8;--calmbg:#2a3137;--bar:#7fb0e6}}
*{box-sizing:border-box}
body{margin:0;background:var(--page);color:var(--ink);font:15px/1.45 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main,header{max-width:86rem;margin:0 auto;padding:0 1.25rem}
header{padding-top:1.5rem}
h1{font-size:1.5rem;margin:0}
h2{font-size:1.15rem;margin:2rem 0 .6rem}
p{margin:.4rem 0}
.dim{color:var(--dim)}
.verdict{margin:1rem 0;padding:.9rem 1.1rem;border-radius:.5rem;font-size:1.15rem;font-weight:600;border-left:.4rem solid}
.verdict.bad{background:var(--badbg);color:var(--bad)}
.verdict.warn{background:var(--warnbg);color:var(--warn)}
.verdict.good{background:var(--goodbg);color:var(--good)}
.tiles{display:flex;flex-wrap:wrap;gap:.6rem;list-style:none;margin:0;padding:0}
.tiles li{background:var(--card);border:1px solid var(--rule);border-top:.25rem solid;border-radius:.4rem;padding:.5rem .8rem;
min-width:7.5rem}
.tiles b{display:block;font-size:1.6rem;line-height:1.2}
.tiles span{color:var(--dim)}
.tiles .bad{border-top-color:var(--bad)}.tiles .bad b{color:var(--bad)}
.tiles .warn{border-top-color:var(--warn)}.tiles .warn b{color:var(--warn)}
.tiles .good{border-top-color:var(--good)}.tiles .good b{color:var(--good)}
.tiles .calm{border-top-color:var(--calm)}
.glance{display:flex;flex-wrap:wrap;gap:.2rem 1.6rem;list-style:none;margin:.8rem 0 0;padding:0}
.glance b{font-weight:600}
.charts{display:flex;flex-wrap:wrap;gap:.6rem}
.charts figure{flex:1 1 24rem}
.scroll{overflow-x:auto;background:var(--card);border:1px solid var(--rule);border-radius:.4rem}
table{border-collapse:collapse;width:100%}
caption{text-align:left;padding:.5rem .7rem;color:var(--dim)}
th,td{text-align:left;vertical-align:top;padding:.35rem .55rem;border-top:1px solid var(--rule)}
thead th{border-top:0;font-size:.85rem;color:var(--dim);white-space:nowrap}
tbody th{font-weight:600}
td.n,th.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
td.t,small.t{white-space:nowrap}
bdi{overflow-wrap:break-word;display:inline-block;max-width:30rem}
tbody th{min-width:9rem}
small{color:var(--dim);display:block;font-weight:400}
.chip{display:inline-block;border-radius:.3rem;padding:.05rem .45rem;font-size:.85rem;font-weight:600;white-space:nowrap}
.chip.bad{background:var(--badbg);color:var(--bad)}
.chip.warn{background:var(--warnbg);color:var(--warn)}
.chip.good{background:var(--goodbg);color:var(--good)}
.chip.calm{background:var(--calmbg);color:var(--calm)}
details{background:var(--card);border:1px solid var(--rule);border-radius:.4rem;margin:.5rem 0}
details .scroll{border:0;border-top:1px solid var(--rule);border-radius:0}
summary{cursor:pointer;padding:.55rem .8rem;display:flex;flex-wrap:wrap;gap:.3rem .8rem;align-items:baseline}
summary::before{content:"\\25B8";color:var(--dim)}
details[open]>summary::before{content:"\\25BE"}
summary .name{font-weight:600}
ul.notes{margin:0;padding:.2rem .8rem .6rem 2rem}
.tools{display:flex;flex-wrap:wrap;gap:.6rem;align-items:center;margin:.5rem 0}
.tools input,.tools button{font:inherit;padding:.35rem .6rem;border:1px solid var(--rule);border-radius:.35rem;background:var(--card);
color:inherit}
.tools input{min-width:20rem;max-width:100%}
.chart{background:var(--card);border:1px solid var(--rule);border-radius:.4rem;padding:.8rem;margin:0}
.chart svg{display:block;width:100%;height:6rem}
.chart rect{fill:var(--bar)}
.chart rect.none{fill:var(--rule)}
.chart .dates{display:flex;justify-content:space-between;border-top:1px solid var(--rule);font-size:.85rem}
footer{max-width:86rem;margin:2rem auto;padding:0 1.25rem;color:var(--dim);font-size:.9rem}
[hidden]{display:none!important}
a{color:inherit}
:focus-visible{outline:2px solid var(--bar);outline-offset:2px}
@page{size:landscape;margin:12mm}
@media print{:root{--page:#fff;--card:#fff;--ink:#000}body{font-size:8.5pt}.tools{display:none}.scroll{overflow:visible}
tr,.verdict,.tiles li,.chart{break-inside:avoid}summary{break-after:avoid}thead{display:table-header-group}
th,td{padding:.2rem .35rem}.chip{font-size:1em}main,header{max-width:none;padding:0}}
"""

SCRIPT = """
(function(){
var box=document.getElementById('find'),tools=document.getElementById('tools'),all=document.querySelectorAll('details.host');
if(!box){return}
tools.hidden=false;
function each(list,what){Array.prototype.forEach.call(list,what)}
function look(){
var text=box.value.toLowerCase(),count=0;
each(all,function(host){
var hits=0;
each(host.querySelectorAll('tbody tr'),function(row){
var hit=!text||row.textContent.toLowerCase().indexOf(text)>=0;
row.hidden=!hit;if(hit){hits++}});
host.hidden=text&&!hits;
if(text&&hits){host.open=true}
count+=hits});
document.getElementById('found').textContent=text?count+' found':''}
box.addEventListener('input',look);
document.getElementById('open').addEventListener('click',function(){each(all,function(host){host.open=true})});
document.getElementById('close').addEventListener('click',function(){each(all,function(host){host.open=false})});
window.addEventListener('beforeprint',function(){each(document.querySelectorAll('details'),function(one){one.open=true})});
})();
"""


def policy() -> str:
    """The page's content security policy: its own style and program, and nothing from anywhere else."""
    return f"default-src 'none'; style-src {_hash(CSS)}; script-src {_hash(SCRIPT)}; base-uri 'none'; form-action 'none'"


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode('ascii')).digest()).decode('ascii')}'"
