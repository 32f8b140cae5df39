use actlog_policy::*;
fn main(){ for t in ["start_auditing = 'yes'","start_audting = true","[entities.account]\nvalues = 'drop'","[entities.a]\nvalues='hash'", "x = ["] {
 match PolicyDocument::parse(t).and_then(|d| Policy::compile(&d,1,None)) { Ok(_)=>{}, Err(e)=>println!("{e}\n--") } } }
