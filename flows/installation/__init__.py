"""The installation: what makes runs happen without people, on the server and on this machine.

Here: putting it onto a server (deploy), starting it (up), looking after its runs (watchdog, ahead), telling people
(alerts), removing what is old (upkeep). Not here: what a run does (flows/retrain).
"""
